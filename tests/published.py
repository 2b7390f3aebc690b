"""Published runs, in a folder `shared/data` beside the checkout: tests against them are skipped where it is absent."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
CHINCHILLA = FOLDER / "epoch_chinchilla.csv"  # Hoffmann et al. 2022, read off a figure by Besiroglu et al. 2024
PORIAN = FOLDER / "porian_four.csv"  # four isoFLOP studies of Porian et al. 2024

needs_published = pytest.mark.skipif(not FOLDER.is_dir(), reason="published runs do not lie beside the checkout")
