"""The two models that are compared, trained on the same fields, and how each is asked.

Both see the same pixels (the encoder's own preprocessing), the same fields in the same number of
passes, turned and flipped alike, and both have their threshold set on the same tenth of the
training fields. The encoder starts from the shipped weights, which never saw either sky; Mask R-CNN
starts from random weights, as no pre-trained ones are given.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.models.detection.rpn import AnchorGenerator

from lvm.augment import AugmentConfig
from lvm.checkpoint import load_encoder
from lvm.detecting import Grid, find_peaks
from lvm.downstream.base import DownstreamModel, create_task
from lvm.downstream.detection import LOWEST_LOGIT, Detection
from lvm.optim import cosine_with_warmup
from lvm.tensors import Tensors, to_tensors
from lvm.training import TrainConfig, fit, step_generator
from lvm.weights import shipped_weights
from tasks.detection_benchmark.sky import Array, Fields

ENCODER = "nano-synthetic"
Answers = list[tuple[Array, Array]]

# Boxes of stars are 9 survey pixels: doubled, the smallest anchor fits them.
ENLARGEMENT = 2
ANCHORS = ((16,), (32,), (64,), (128,), (256,))
ASKED_AT_A_TIME = 16
MOST_SOURCES = 40  # of a field, Mask R-CNN


@dataclass(frozen=True)
class Budget:
    """What a training may use.

    Parameters
    ----------
    epochs : passes over the training fields
    batch : fields in a step
    """

    epochs: int
    batch: int = 8
    device: str = "cpu"


@dataclass(frozen=True)
class Trained:
    """A model, and processor seconds and fields that its training took."""

    model: Any
    seconds: float
    seen: int


def fields_of_epoch(fields: Fields, batch: int, seed: int, epoch: int) -> list[dict[str, Array]]:
    """Return shuffled batches; both models get the same ones."""
    order = np.random.default_rng((seed, epoch)).permutation(len(fields))
    return [fields.batch(order[at : at + batch]) for at in range(0, len(order), batch)]


def train_encoder(fields: Fields, budget: Budget, seed: int, **options: Any) -> Trained:
    """Train the shipped encoder with the detection head, all layers."""
    encoder = load_encoder(shipped_weights(ENCODER))
    model = DownstreamModel(
        create_task("detection", options), encoder, "full", AugmentConfig(), seed=seed
    )
    config = TrainConfig(
        epochs=budget.epochs,
        learning_rate=2e-3,
        warmup=0.05,
        layer_decay=0.8,
        seed=seed,
        device=budget.device,
    )
    start = time.process_time()
    fit(model, lambda epoch: fields_of_epoch(fields, budget.batch, seed, epoch), config)
    return Trained(model, time.process_time() - start, budget.epochs * len(fields))


def ask_encoder(model: DownstreamModel, fields: Fields, device: str = "cpu") -> Answers:
    """Return the sources that the model finds in each field."""
    answers: Answers = []
    for batch in _parts(fields):
        with torch.no_grad():
            output = model(to_tensors(batch, device))
        grid = Grid(output.shape[-1], output.shape[-1] * stride_of(model))
        answers += find_peaks(output, grid, LOWEST_LOGIT)
    return answers


def stride_of(model: DownstreamModel) -> int:
    """Return the side of a cell of the model's map [pixel]."""
    task = model.task
    if not isinstance(task, Detection):
        raise TypeError(f"{task.name} is not the detection task")
    return task.options.stride


def mask_rcnn(side: int) -> Any:
    """Return torchvision's Mask R-CNN with ResNet50 and FPN for fields of `side` pixels."""
    size = ENLARGEMENT * side
    ratios = ((0.5, 1.0, 2.0),) * len(ANCHORS)
    return maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=2,
        min_size=size,
        max_size=size,
        image_mean=[0.0, 0.0, 0.0],
        image_std=[1.0, 1.0, 1.0],
        rpn_anchor_generator=AnchorGenerator(ANCHORS, ratios),
        # Fields hold a handful of sources: 32 regions, 8 with masks, keep training affordable.
        box_batch_size_per_image=32,
        rpn_post_nms_top_n_train=200,
        rpn_post_nms_top_n_test=200,
        box_detections_per_img=MOST_SOURCES,
        box_score_thresh=0.02,
    )


def train_mask_rcnn(fields: Fields, budget: Budget, seed: int) -> Trained:
    """Train Mask R-CNN from random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = mask_rcnn(fields.image.shape[-1]).to(budget.device).train()
        task, prepare = Detection(), _preparation(budget.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.05)
        steps = budget.epochs * -(-len(fields) // budget.batch)
        start, step = time.process_time(), 0
        for epoch in range(budget.epochs):
            for batch in fields_of_epoch(fields, budget.batch, seed, epoch):
                for group in optimizer.param_groups:
                    group["lr"] = 2e-4 * cosine_with_warmup(step / steps, 0.05, 0.01)
                posed = task.pose(to_tensors(batch, budget.device), step_generator(seed, step))
                losses = model(list(prepare(posed)), _targets(task, posed))
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(sum(losses.values()))
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                step += 1
    return Trained(model.eval(), time.process_time() - start, budget.epochs * len(fields))


def ask_mask_rcnn(model: Any, fields: Fields, device: str = "cpu") -> Answers:
    """Return the sources that the model finds in each field; masks are not asked for."""
    masks, model.roi_heads.mask_roi_pool = model.roi_heads.mask_roi_pool, None
    answers, prepare = [], _preparation(device)
    middle = fields.image.shape[-1] // 2
    model.eval()
    for batch in _parts(fields):
        with torch.no_grad():
            found = model(list(prepare(to_tensors(batch, device))))
        for item in found:
            boxes = item["boxes"].double().cpu().numpy()
            low, high = boxes[:, :2], boxes[:, 2:]
            # Boxes run over pixel edges, the first of which is at 0; places are pixel centres.
            places = np.concatenate([0.5 * (low + high) - 0.5 - middle, 0.5 * (high - low)], axis=1)
            answers.append((places, item["scores"].double().cpu().numpy()))
    model.roi_heads.mask_roi_pool = masks
    return answers


def _parts(fields: Fields) -> list[dict[str, Array]]:
    rows = np.arange(len(fields))
    starts = range(0, len(rows), ASKED_AT_A_TIME)
    return [fields.batch(rows[at : at + ASKED_AT_A_TIME]) for at in starts]


def _preparation(device: str) -> Any:
    encoder = load_encoder(shipped_weights(ENCODER)).to(device)
    side = int(encoder.config.input_size or 0)

    def prepare(batch: Tensors) -> torch.Tensor:
        if batch["image"].shape[-1] != side:
            raise ValueError(
                f"fields of {batch['image'].shape[-1]} pixels, but the encoder sees {side}"
            )
        return encoder.prepare(batch).inputs

    return prepare


def _targets(task: Detection, batch: Tensors) -> list[Tensors]:
    """Return boxes and masks of what must be found, and of what is as bright but ignored."""
    side = batch["image"].shape[-1]
    axis = torch.arange(side, device=batch["target"].device) - side // 2
    targets = []
    for rows in batch["target"]:
        x, y, width, height, mag = rows[torch.isfinite(rows[:, 0]), :5].unbind(dim=1)
        shown = ~(mag > task.options.faint_limit)
        x, y, width, height = x[shown], y[shown], width[shown], height[shown]
        low, high = -0.5 - side // 2, side - 0.5 - side // 2
        edges = torch.stack([x - width, y - height, x + width, y + height], dim=1)
        across = (axis[None, None, :] - x[:, None, None]) / width[:, None, None]
        up = (axis[None, :, None] - y[:, None, None]) / height[:, None, None]
        targets.append(
            {
                "boxes": edges.clamp(low, high) - low,
                "labels": torch.ones(len(x), dtype=torch.int64, device=rows.device),
                "masks": (across.square() + up.square() <= 1.0).to(torch.uint8),
            }
        )
    return targets
