"""Train the iris classifier and write iris.npz: `python train.py`.

The file holds plain arrays under the names of scikit-learn's documented fitted attributes
(`coef_`, `intercept_`, `classes_`) and the training data's means (`means`).
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

SEED = 0
FILE = Path(__file__).with_name("iris.npz")


def main() -> None:
    """Fit on 100 flowers, score on the other 50, and save what was fitted."""
    measurements, species = load_iris(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        measurements, species, test_size=50, stratify=species, random_state=SEED
    )
    # A tight tolerance: the optimum, and not where one release's solver happened to stop.
    classifier = LogisticRegression(tol=1e-8, max_iter=1000).fit(train_x, train_y)
    np.savez(
        FILE,
        coef_=classifier.coef_,
        intercept_=classifier.intercept_,
        classes_=classifier.classes_.astype(np.int64),
        means=train_x.mean(axis=0),
    )
    accuracy = classifier.score(test_x, test_y)
    print(f"accuracy on {len(test_y)} held-out flowers: {accuracy:.2f}; wrote {FILE.name}")


if __name__ == "__main__":
    main()
