"""Predicted against measured: every fitted law's values at its runs."""

import numpy as np

from scaling.analysis.figures.chart import BLACK, BLUE, Absent, Axis, Chart, Line, Panel, Points, array, extent, thin
from scaling.analysis.figures.elements import run_texts, thinned_words, used_rows
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.fits import FittedEntry

MOST_LAWS = 6
LONGEST_TITLE = 40  # characters of a law's name above its panel


def predicted(results: Results) -> Chart | Absent:
    """The law's value at each run against the measured value, a panel a law."""
    title = "Predicted against measured at the fitted runs"
    entries = [entry for entry in results["fits"] if entry["status"] != "refused" and entry.get("predicted")]
    if not entries:
        return Absent(title, "these results hold no predicted values: fit the data again")
    panels = [_panel(results, entry) for entry in entries[:MOST_LAWS]]
    more = f" The first {MOST_LAWS} of {len(entries)} laws are drawn." if len(entries) > MOST_LAWS else ""
    caption = (
        "Each run's measured value and the fitted law's value there; a law that holds scatters evenly about the "
        f"diagonal.{more}{thinned_words(results)}"
    )
    return Chart(title, caption, tuple(panels), min(len(panels), 3), height=3.1)


def _panel(results: Results, entry: FittedEntry) -> Panel:
    rows = used_rows(results, entry)
    of_loss = array(results["observations"]["loss"])[rows]
    measured = array(entry["measured"]) if "measured" in entry else of_loss
    values = array(entry["predicted"])
    drawn = thin(len(rows))
    seen = np.concatenate([measured[drawn], values[drawn]])
    seen = seen[np.isfinite(seen)]
    log = bool((seen > 0).all()) and entry["loss"]["on"] == "log"
    limits = extent(seen, log=log)
    output = entry.get("output", "loss")
    runs = Points(measured[drawn], values[drawn], BLUE, size=3.2, opacity=0.7, hover=run_texts(results, rows[drawn]))
    ends = np.array(limits)
    name = entry["name"] if len(entry["name"]) <= LONGEST_TITLE else f"{entry['name'][: LONGEST_TITLE - 1]}…"
    marks = (Line(ends, ends, BLACK, "dash"), runs)
    return Panel(
        Axis(f"measured {output}", log=log, limits=limits), Axis("predicted", log=log, limits=limits), marks, title=name
    )
