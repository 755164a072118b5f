"""Name the species of an iris flower: scikit-learn, batched, with an explanation."""

from typing import Annotated

import numpy as np
from sklearn.linear_model import LogisticRegression

from omi_runtime import InvalidInput, Model, Tensor

Measurements = Annotated[
    np.ndarray,
    Tensor(
        "FP32",
        [4],
        description="Sepal length, sepal width, petal length, petal width, in centimetres.",
    ),
]


class Iris(Model):
    """Name the species of an iris flower from four measurements in centimetres."""

    version = "1.0.0"
    max_batch_size = 256

    def load(self) -> None:
        """Put the fitted attributes that train.py saved back into an estimator."""
        with np.load(self.directory / "iris.npz", allow_pickle=False) as fitted:
            self.means: np.ndarray = fitted["means"]
            self.classifier = LogisticRegression()
            self.classifier.coef_ = fitted["coef_"]
            self.classifier.intercept_ = fitted["intercept_"]
            self.classifier.classes_ = fitted["classes_"]
            self.classifier.n_features_in_ = self.means.size

    def predict(
        self, measurements: Measurements
    ) -> Annotated[
        np.ndarray,
        Tensor("INT64", name="species", description="0 setosa, 1 versicolor, 2 virginica."),
    ]:
        """Classify n flowers, shape (n, 4), as n species, shape (n,)."""
        if not np.isfinite(measurements).all():
            raise InvalidInput("measurements must be finite numbers")
        species: np.ndarray = self.classifier.predict(measurements)
        return species

    def explain(self, measurements: Measurements) -> np.ndarray:
        """Say what each measurement did for the species chosen, shape (n, 4).

        A contribution is the species' coefficient times the distance from the mean of the
        training data: how far it moved the species' score from that of an average flower.
        """
        chosen = np.searchsorted(self.classifier.classes_, self.predict(measurements))
        contributions: np.ndarray = self.classifier.coef_[chosen] * (measurements - self.means)
        return contributions
