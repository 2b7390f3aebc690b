"""The table of measured against known exponents, of runs on a source whose law is known."""

from scaling.analysis.report.blocks import Cell, Table, columns, interval_cell, number_cell
from scaling.analysis.schema.document import Results
from scaling.analysis.words import number, sentence


def ground_truth(results: Results) -> Table:
    """Every measured exponent with its interval, the known one, and whether the interval holds it."""
    section = results.get("ground_truth")
    rows = [
        [
            Cell(one["quantity"]),
            Cell(one["by"]),
            interval_cell(one["value"], one, number),
            number_cell(one["known"]),
            Cell("–" if one["inside"] is None else "yes" if one["inside"] else "no"),
        ]
        for one in (section["exponents"] if section else [])
    ]
    headings = columns("exponent of", "~measured by", "#measured", "#known", "interval holds it")
    note = "" if section is None else sentence(f"the known law is {section['law']}; {section['words']}")
    return Table("Measured against known exponents", headings, rows, note)
