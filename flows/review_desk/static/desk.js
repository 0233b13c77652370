// Keys, the view controls, and forms that swap the page's content without a reload.
// Every page works without this file.
"use strict";

const main = () => document.querySelector("main");
const typing = (target) => target.matches("input:not([type=radio]):not([type=range]):not([type=checkbox]), textarea, select");

// --- how objects are shown ------------------------------------------------------------------
const viewForm = () => document.querySelector("[data-view]");

function applyView() {
  const form = viewForm();
  if (!form) return;
  const data = new FormData(form);
  const view = {};
  for (const name of ["layer", "stretch", "zoom", "neighbours"]) view[name] = data.get(name) || "";
  document.querySelectorAll("[data-view-field]").forEach((field) => { field.value = view[field.dataset.viewField]; });
  const change = (address) => {
    const url = new URL(address, location.href);
    for (const [name, value] of Object.entries(view)) {
      if (value) url.searchParams.set(name, value); else url.searchParams.delete(name);
    }
    return url.pathname + url.search;
  };
  document.querySelectorAll("[data-picture]").forEach((picture) => {
    const next = change(picture.getAttribute("src"));
    if (next !== picture.getAttribute("src")) picture.setAttribute("src", next);
  });
  document.querySelectorAll("[data-next] a").forEach((link) => { link.href = change(link.getAttribute("href")); });
  document.querySelectorAll("[data-legend]").forEach((legend) => { legend.hidden = legend.dataset.legend !== view.layer; });
  history.replaceState(null, "", change(location.href));
  fetchAhead();
}

function cycle(name) {
  const field = viewForm()?.elements[name];
  if (!field) return;
  if (field.type === "checkbox") field.checked = !field.checked;
  else field.selectedIndex = (field.selectedIndex + 1) % field.options.length;
  applyView();
}

function brighter(step) {
  const field = viewForm()?.elements.stretch;
  if (!field) return;
  field.value = String(Number(field.value) + step);
  applyView();
}

function fetchAhead() {
  document.querySelectorAll("[data-next] a").forEach((link) => { new Image().src = link.href; });
}

// --- forms that swap the page ---------------------------------------------------------------
let sending = false;

async function send(form, button) {
  if (sending) return;
  sending = true;
  const data = new URLSearchParams(new FormData(form));
  if (button?.name) data.set(button.name, button.value);
  try {
    const answer = await fetch(form.action, { method: "POST", body: data, headers: { accept: "text/html" } });
    if (new URL(answer.url).pathname === "/login") { location.href = answer.url; return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    main().replaceWith(page.querySelector("main"));
    document.title = page.title;
    if (answer.ok) history.replaceState(null, "", answer.url);
    ready();
  } catch (error) {
    announce("The desk does not answer: nothing was recorded. Try again.");
  } finally {
    sending = false;
  }
}

function announce(text) {
  document.getElementById("announcer").textContent = text;
  let note = document.querySelector("[data-note]");
  if (!note) {
    note = document.createElement("p");
    note.className = "warn";
    note.dataset.note = "";
    main().prepend(note);
  }
  note.textContent = text;
}

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-swap]")) return;
  event.preventDefault();
  send(event.target, event.submitter);
});

document.addEventListener("input", (event) => {
  if (event.target.closest("[data-view]")) applyView();
  if (event.target.matches("[data-threshold]")) document.querySelector("[data-accept]").value = event.target.value;
  if (event.target.matches("[data-choice]")) mark(event.target.closest(".cell"));
});
document.addEventListener("submit", (event) => { if (event.target.matches("[data-view]")) event.preventDefault(); });

// --- the grid -------------------------------------------------------------------------------
const cells = () => [...document.querySelectorAll(".cell")];
const mark = (cell) => cell.classList.toggle("answered", cell.querySelector("input:checked") !== null);

function choose(cell, key) {
  const choice = cell.querySelector(`[data-choice="${key}"]`);
  if (!choice) return false;
  choice.checked = true;
  mark(cell);
  (cells()[cells().indexOf(cell) + 1] || cell).focus();
  return true;
}

function move(cell, key) {
  const all = cells(), here = all.indexOf(cell);
  const perRow = all.filter((other) => other.offsetTop === all[0].offsetTop).length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -perRow, ArrowDown: perRow }[key];
  if (step === undefined) return false;
  all[here + step]?.focus();
  return true;
}

function gridKey(cell, key) {
  if (move(cell, key) || choose(cell, key)) return true;
  if (key !== "Backspace") return false;
  cell.querySelectorAll("input:checked").forEach((choice) => { choice.checked = false; });
  mark(cell);
  return true;
}

// --- keys -----------------------------------------------------------------------------------
const LOOK = { "[": () => brighter(-1), "]": () => brighter(1), b: () => cycle("layer"), z: () => cycle("zoom"), n: () => cycle("neighbours"), "?": () => { location.href = "/help"; } };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && typing(event.target)) { event.target.blur(); return; }
  if (typing(event.target)) return;
  const cell = event.target.closest(".cell");
  if (cell && gridKey(cell, event.key)) { event.preventDefault(); return; }
  if (event.key === "Enter" && event.target.matches("a, button, summary")) return;
  const target = [...document.querySelectorAll("[data-key]")].find((item) => item.dataset.key === event.key);
  if (target) {
    event.preventDefault();
    if (target.matches("input")) target.focus(); else target.click();
  } else if (LOOK[event.key]) {
    event.preventDefault();
    LOOK[event.key]();
  }
});

// --- what is wider than the window ----------------------------------------------------------
function tellWide() {
  document.querySelectorAll(".scroll").forEach((box) => {
    const wide = box.scrollWidth > box.clientWidth + 1;
    box.classList.toggle("wide", wide);
    for (const [name, value] of Object.entries({ tabindex: "0", role: "region", "aria-label": "scrolls sideways" })) {
      if (wide) box.setAttribute(name, value); else box.removeAttribute(name);
    }
  });
}
addEventListener("resize", tellWide);
document.addEventListener("toggle", tellWide, true);

// --- after every swap -----------------------------------------------------------------------
function ready() {
  const picture = document.querySelector("[data-label-one] .shown");
  if (picture) document.getElementById("announcer").textContent = picture.alt;
  document.querySelector("[data-label-grid] .cell")?.focus();
  if (document.querySelector("[data-reload]")) setTimeout(() => location.reload(), 3000);
  tellWide();
  fetchAhead();
}
ready();
