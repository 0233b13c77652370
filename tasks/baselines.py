"""Simple methods that a model has to beat on the same splits: majority class and colours."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from lvm.metrics import balanced_accuracy

SMALLEST_FLUX = 1e-3  # nanomaggy, 30 mag: a negative flux has no colour


def majority_baseline(train: npt.NDArray[np.int64], test: npt.NDArray[np.int64], n: int) -> float:
    """Return the balanced accuracy of always naming the most frequent class of the train split."""
    guess = np.zeros((len(test), n))
    guess[:, np.bincount(train, minlength=n).argmax()] = 1.0
    return balanced_accuracy(guess, test)


def colour_baseline(
    train: tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]],
    test: tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]],
    n: int,
) -> float:
    """Return the balanced accuracy of logistic regression on colours and one magnitude.

    Classes are weighted by their inverse frequency, so that the baseline is after the same
    measure as the model.
    """
    from sklearn.linear_model import LogisticRegression  # a second to load
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000)
    ).fit(*train)
    guess = np.zeros((len(test[1]), n))
    guess[:, fitted.classes_] = fitted.predict_proba(test[0])
    return balanced_accuracy(guess, test[1])


def colours(table: pd.DataFrame, bands: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return dereddened colours of neighbouring bands and the magnitude of the last one [mag].

    Parameters
    ----------
    table : DataFrame
        With `flux_<band>` and `mw_transmission_<band>`; a missing transmission counts as 1.
    bands : sequence of str

    Returns
    -------
    ndarray, shape (object, band), float64
        Never NaN: a missing or negative flux counts as `SMALLEST_FLUX`.
    """
    magnitudes = []
    for band in bands:
        flux = table[f"flux_{band}"].to_numpy(dtype=np.float64)
        transmission = table[f"mw_transmission_{band}"].to_numpy(dtype=np.float64)
        true = flux / np.where(transmission > 0, transmission, 1.0)
        bright = np.nan_to_num(true, nan=SMALLEST_FLUX).clip(min=SMALLEST_FLUX)
        magnitudes.append(22.5 - 2.5 * np.log10(bright))
    pairs = zip(magnitudes, magnitudes[1:], strict=False)
    return np.column_stack([blue - red for blue, red in pairs] + [magnitudes[-1]])
