"""The table of registered forecasts in a report, each with its grade."""

from scaling.analysis.report.blocks import Cell, Table, columns, interval_cell, number_cell, percent_cell, value_cell
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.registered import GradeEntry
from scaling.analysis.words import count, number, scientific, sentence


def grades(results: Results) -> Table:
    """Every registered forecast: its target, interval and time, and the grade by its run."""
    section = results.get("registered")
    rows = [_row(one) for one in section["entries"]] if section else []
    headings = columns(
        *("registered", "method", "#FLOPs", "#N", "#D", "#forecast loss", "#measured", "#error", "#z", "~grade")
    )
    return Table("Registered forecasts", headings, rows, "" if section is None else sentence(section["words"]))


def _row(entry: GradeEntry) -> list[Cell]:
    forecast, run = entry["forecast"], entry["run"]
    if forecast is None:
        return [*[Cell("–")] * 9, Cell(sentence(entry["words"]))]
    target = forecast["target"]
    return [
        Cell(forecast["registered_at"][:19].replace("T", " "), forecast["registered_at"]),
        Cell(forecast["method"]["name"]),
        value_cell(target["flops"], scientific),
        value_cell(target["params"], count),
        value_cell(target["tokens"], count),
        interval_cell(forecast["loss"]["value"], forecast["loss"], number),
        number_cell(None if run is None else run["loss"]),
        percent_cell(entry["error"], 1),
        number_cell(entry["z"]),
        Cell(sentence(entry["words"])),
    ]
