"""What deploy/ says can be done: files parse, and every command in them is one that exists.

No container engine, no Kubernetes and no SLURM is needed; none of them is shown to work by this.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_lines import check_brickyard

from flows.deployments import POOLS
from tasks.clusters import HOUSEKEEPING_ENVIRONMENT, WORKER_ENVIRONMENT
from tasks.settings import Settings, load_settings

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
SCRIPTS = sorted((DEPLOY / "slurm").glob("*.sh"))
JOBS = [path for path in SCRIPTS if path.name != "environment.sh"]
BUILT = "brickyard:latest"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OBJECTS = [
    item
    for name in ("brickyard.yaml", "secret.example.yaml")
    for item in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())
]
SECRETS = {"POSTGRES_PASSWORD", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"}
SECRETS |= {"SURVEY_FOLDER", "DESK_NAME"}


def words_of(command: str | list[str]) -> list[list[str]]:
    """Return the commands of a service: one, or the lines of a shell script."""
    words = shlex.split(command) if isinstance(command, str) else [str(item) for item in command]
    if words[0] != "/bin/sh":
        return [words]
    lines = [line.removeprefix("exec ") for line in words[-1].splitlines()]
    return [shlex.split(line) for line in lines if line.strip()]


def lines_of(path: Path) -> list[str]:
    """Return the lines of a script that start a program of ours."""
    starts = ("brickyard ", "torchrun ")
    return [
        line.split(" & ")[0] for line in path.read_text().splitlines() if line.startswith(starts)
    ]


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for item in OBJECTS:
        if item["kind"] == "Deployment":
            pod = item["spec"]["template"]["spec"]
            yield from ((pod, box) for box in [*pod.get("initContainers", []), *pod["containers"]])


def commands() -> list[list[str]]:
    """Return every command of the compose file and of the manifests that our image runs."""
    found = [
        words
        for service in COMPOSE["services"].values()
        if service["image"] == BUILT
        for words in words_of(service["command"])
    ]
    found += [
        words
        for _, box in containers()
        for words in words_of([*box.get("command", []), *box.get("args", [])])
    ]
    return found


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("BRICKYARD_HOME", str(tmp_path))


@pytest.mark.parametrize(
    "words", [w for w in commands() if w[0] == "brickyard"], ids=lambda words: " ".join(words[:3])
)
def test_every_brickyard_command_parses(words):
    check_brickyard(words[1:])


def test_a_misspelt_option_is_seen():
    with pytest.raises(Exception, match="No such option"):
        check_brickyard(["desk", "--hots", "0.0.0.0"])


MODULES = {"torchrun": "torch.distributed.run"}  # those of other programs are called as they are
# Asks for the help of many commands in one process: importing MLflow or Prefect takes seconds.
ASKING = """
import contextlib, io, json, runpy, sys
texts = []
for module, *words in json.load(sys.stdin):
    sys.argv = [module, *words, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as text:
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            assert not end.code, sys.argv
    texts.append(text.getvalue())
json.dump(texts, sys.stdout)
"""


@pytest.fixture(scope="module")
def helps() -> dict[tuple[str, ...], str]:
    """Return what `--help` says of each sub-command of other programs that we call."""
    names = [case[: case.index("|")] for case in foreign_commands()]
    done = subprocess.run(
        [sys.executable, "-c", ASKING],
        input=json.dumps([[MODULES.get(name[0], name[0]), *name[1:]] for name in names]),
        env=os.environ | {"COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(names, json.loads(done.stdout), strict=True))


def foreign_commands() -> list[tuple[str, ...]]:
    """Return each sub-command of other programs once, with all options that we give it."""
    found: dict[tuple[str, ...], set[str]] = {}
    scripts = [shlex.split(line) for path in JOBS for line in lines_of(path)]
    for words in [*commands(), *(line for line in scripts if line[0] == "torchrun")]:
        if words[0] in ("prefect", "mlflow", "dask", "torchrun"):
            bare = [w for w in words if not w.startswith("-") or w == "-m"]
            depth = {"mlflow": 2, "dask": 2, "torchrun": 1}.get(words[0], 3)
            name = ("prefect", "deploy") if "deploy" in bare else tuple(bare[:depth])
            own = words[: words.index("-m")] if "-m" in words else words
            options = [w for w in own if w.startswith("--") and w != "--no-prompt"]
            found.setdefault(name, set()).update(options)
    return [(*name, "|", *sorted(options)) for name, options in found.items()]


@pytest.mark.slow
@pytest.mark.parametrize("case", foreign_commands(), ids=" ".join)
def test_other_programs_have_the_options_that_we_give_them(case, helps):
    name, options = case[: case.index("|")], case[case.index("|") + 1 :]
    text = helps[name]
    assert options
    assert [option for option in options if option not in text] == []


def test_the_compose_file_hangs_together():
    services = COMPOSE["services"]
    text = (DEPLOY / "compose.yaml").read_text()
    example = (DEPLOY / "compose.env.example").read_text()
    assert set(re.findall(r"\$\{(\w+):\?", text)) == SECRETS
    assert set(re.findall(r"^(\w+)=", example, re.M)) == SECRETS
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        for mount in service.get("volumes", []):
            assert mount.split(":")[0] in COMPOSE["volumes"] or mount.startswith("${"), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to other machines"
    for waited in ("postgres", "minio", "prefect"):
        assert services[waited]["healthcheck"]["test"]
    gpu = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())
    assert set(gpu["services"]) <= set(services)
    kept = services["dask-worker"]["environment"]
    assert kept == services["desk"]["environment"] | WORKER_ENVIRONMENT
    scheduler = services["dask-scheduler"]["environment"]
    assert scheduler == services["desk"]["environment"] | HOUSEKEEPING_ENVIRONMENT


@pytest.mark.parametrize(
    "environment",
    [
        COMPOSE["services"]["desk"]["environment"],
        next(item for item in OBJECTS if item["kind"] == "ConfigMap")["data"],
    ],
    ids=["compose", "kubernetes"],
)
def test_our_settings_take_what_is_set(environment, monkeypatch):
    extra = {"BRICKYARD_LOG_FORMAT"}
    ours = {name for name in environment if name.startswith("BRICKYARD_")} - extra
    known = {f"BRICKYARD_{name.upper()}" for name in Settings.model_fields}
    assert ours <= known
    for name in ours:
        monkeypatch.setenv(name, environment[name])
    settings = load_settings()
    assert settings.store_path == "s3://brickyard/store"
    logging = Path(environment["PREFECT_LOGGING_SETTINGS_PATH"])
    assert (REPOSITORY / logging.relative_to("/app")).is_file()


def test_manifests_have_what_they_refer_to():
    kinds: dict[str, set[str]] = {}
    for item in OBJECTS:
        assert {"apiVersion", "kind", "metadata"} <= set(item)
        kinds.setdefault(item["kind"], set()).add(item["metadata"]["name"])
    labels = {}
    for item in OBJECTS:
        if item["kind"] == "Deployment":
            spec = item["spec"]
            labels[item["metadata"]["name"]] = spec["template"]["metadata"]["labels"]
            assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    for item in OBJECTS:
        if item["kind"] == "Service":
            assert item["spec"]["selector"] in labels.values()
    for pod, box in containers():
        volumes = {v["name"]: v for v in pod.get("volumes", [])}
        claims = [v["persistentVolumeClaim"] for v in volumes.values() if "emptyDir" not in v]
        assert {claim["claimName"] for claim in claims} <= kinds["PersistentVolumeClaim"]
        assert {m["name"] for m in box.get("volumeMounts", [])} <= set(volumes)
        for source in box.get("envFrom", []):
            ((kind, names),) = source.items()
            wanted = {"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind]
            assert names["name"] in kinds[wanted]
        for variable in box.get("env", []):
            if "value" in variable:
                continue
            key = variable["valueFrom"]["secretKeyRef"]
            secret = next(
                i for i in OBJECTS if i["metadata"]["name"] == key["name"] and i["kind"] == "Secret"
            )
            assert key["key"] in secret["stringData"]


def test_one_pod_alone_writes_the_home():
    writers = [
        item["metadata"]["name"]
        for item in OBJECTS
        if item["kind"] == "Deployment" and "desk" in str(item["spec"])
    ]
    (name,) = writers
    deployment = next(
        i for i in OBJECTS if i["kind"] == "Deployment" and i["metadata"]["name"] == name
    )
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_both_ways_have_a_worker_for_every_pool():
    for found in (COMPOSE["services"], {box["name"]: box for _, box in containers()}):
        assert {f"worker-{pool}" for pool in POOLS} <= set(found)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_shell(path):
    subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_jobs_say_what_they_need_and_run_what_exists(path):
    text = path.read_text()
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)", text, re.M))
    assert {"job-name", "nodes", "mem", "time", "output"} <= set(asked)
    assert re.fullmatch(r"(\d+-)?\d{1,2}:\d{2}:\d{2}", asked["time"])
    (line,) = lines_of(path)
    words = shlex.split(line.replace('"$1"', "first").replace('"$2"', "second"))
    if words[0] == "torchrun":
        module = words.index("-m")
        assert words[module + 1] == "flows"
        words = words[module + 1 :]
    check_brickyard(words[1:])


@pytest.mark.parametrize("path", [path for path in JOBS if "BRICKYARD_SLURM" in path.read_text()])
def test_what_jobs_ask_of_slurm_is_what_the_settings_take(path, monkeypatch):
    (options,) = re.findall(r"^default='(.*)'$", path.read_text(), re.M)
    monkeypatch.setenv("BRICKYARD_SLURM", options)
    monkeypatch.setenv("BRICKYARD_CLUSTER", "slurm")
    assert load_settings().slurm.memory == json.loads(options)["memory"]


def test_environment_of_jobs_keeps_what_is_set(tmp_path):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "activate").write_text("")
    script = f"source {DEPLOY}/slurm/environment.sh; echo $BRICKYARD_HOME $BRICKYARD_STAGING"
    environment = {"PATH": os.environ["PATH"], "SCRATCH": "/scratch", "TMPDIR": "/fast"}
    environment["BRICKYARD_VENV"] = str(tmp_path / "venv")
    assert _echoed(script, environment) == ["/scratch/brickyard/home", "/fast/brickyard-staging"]
    environment["BRICKYARD_HOME"] = "/elsewhere"
    assert _echoed(script, environment)[0] == "/elsewhere"


def _echoed(script: str, environment: dict[str, str]) -> list[str]:
    done = subprocess.run(
        ["bash", "-euc", script], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.split()


def test_alarms_ask_for_figures_that_exist():
    rules = yaml.safe_load((DEPLOY / "alarms.yaml").read_text())["groups"][0]["rules"]
    source = (REPOSITORY / "tasks" / "metrics_endpoint.py").read_text()
    for rule in rules:
        (name,) = re.findall(r"brickyard_(\w+)", rule["expr"])
        assert f'"{name.removesuffix("_total")}"' in source, rule["alert"]


def test_the_image_holds_what_the_containers_need():
    text = (DEPLOY / "Dockerfile").read_text()
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)", text, re.M)
    project = (REPOSITORY / "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in project for extra in extras.split(","))
    assert (REPOSITORY / "requirements.lock").is_file()
    assert "USER brickyard" in text
