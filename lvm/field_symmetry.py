"""The eight symmetries of the square, for pixels and for the places of sources alike."""

import torch


def turn_pixels(array: torch.Tensor, element: torch.Tensor) -> torch.Tensor:
    """Transpose, flip up-down and flip left-right each object by the bits 1, 2, 4 of `element`.

    Parameters
    ----------
    array : (object, ..., y, x), square
    element : (object,) int64, 0 to 7
    """
    turned = array.clone()
    for value in range(1, 8):
        chosen = (element == value).to(array.device)
        if bool(chosen.any()):
            part = array[chosen]
            part = part.transpose(-1, -2) if value & 1 else part
            part = part.flip(-2) if value & 2 else part
            turned[chosen] = part.flip(-1) if value & 4 else part
    return turned


def turn_places(places: torch.Tensor, element: torch.Tensor, side: int) -> torch.Tensor:
    """Do to places (object, source, 4 or more) what `turn_pixels` does to squares of `side`.

    Columns beyond x, y, half width, half height stay as they are.
    """
    element = element.to(places.device)[:, None]
    x, y, width, height = places[..., :4].unbind(dim=-1)
    swap = (element & 1).bool()
    x, y = torch.where(swap, y, x), torch.where(swap, x, y)
    width, height = torch.where(swap, height, width), torch.where(swap, width, height)
    # Flipping keeps the square in place; its central pixel moves when the side is even.
    last = side - 1 - 2 * (side // 2)
    y = torch.where((element & 2).bool(), last - y, y)
    x = torch.where((element & 4).bool(), last - x, x)
    return torch.cat([torch.stack([x, y, width, height], dim=-1), places[..., 4:]], dim=-1)
