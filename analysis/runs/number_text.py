"""Numbers as people write them: 1.3B, 8.02T, 2.00×10¹⁹, 1,300,000; and the units in a column's header.

A loss is read as a plain number alone: a comma in a loss may be a decimal comma, which a whole table settles.
"""

import re
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

MAGNITUDES = {
    1e3: ("k", "thousand", "thousands"),
    1e6: ("m", "mn", "mln", "mio", "million", "millions"),
    1e9: ("b", "bn", "bln", "g", "mrd", "billion", "billions"),
    1e12: ("t", "tn", "trn", "trillion", "trillions"),
}
FACTORS = {word: factor for factor, words in MAGNITUDES.items() for word in words}
NOUNS = ("params", "parameters", "param", "tokens", "tok", "token", "flops", "flop")
PREFIXES = {"k": 1e3, "kilo": 1e3, "m": 1e6, "mega": 1e6, "g": 1e9, "giga": 1e9, "t": 1e12, "tera": 1e12}
PREFIXES |= {"p": 1e15, "peta": 1e15, "e": 1e18, "exa": 1e18, "z": 1e21, "zetta": 1e21, "y": 1e24, "yotta": 1e24}
PF_DAY_FLOPS = 1e15 * 86_400
PF_DAYS = re.compile(r"(?:pf|pflops?|petaflops?)(?:/s)?[\s-]*s?[\s-]*days?")
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺−", "0123456789-+-")
PLAIN = r"\d+(?:\.\d*)?|\.\d+"
GROUPED = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:[_' \u2019\u00a0\u202f]\d{3})+(?:\.\d+)?"
POWER = re.compile(
    rf"(?:({PLAIN})\s*[×x*·]\s*)?10(?:\s*(?:\^|\*\*)\s*|(?=[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]))\{{?([⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺\d+-]+)\}}?"
)
NUMBER = re.compile(rf"({GROUPED}|(?:{PLAIN})(?:e[+-]?\d+)?)\s*([a-z/\s-]*)", re.IGNORECASE)
REST = r"(?:e[+-]?\d+)?(?:\s*[^\d.,\s][^.,]*)?"  # an exponent and a unit
WITH_COMMA = re.compile(rf"[+-]?(\d{{1,3}}(?:\.\d{{3}})+|\d+)(?:,(\d+))?{REST}", re.IGNORECASE)
WITH_POINT = re.compile(rf"[+-]?\d*\.\d+{REST}", re.IGNORECASE)
THOUSANDS = re.compile(rf"[+-]?\d{{1,3}}(?:\.\d{{3}})+{REST}", re.IGNORECASE)
SAMPLE_ROWS = 1000  # rows in which decimal commas are looked for


def decimal_comma(table: pd.DataFrame) -> str:
    """A number of a table's text that has a decimal comma for certain; "" where none has.

    1,234 may be a thousand and more; 1,5 and 0,125 are certain, in a column that holds such numbers alone.
    """
    for name in table.columns:
        cells = table[name].iloc[:SAMPLE_ROWS].dropna()
        if not len(cells) or pd.api.types.is_numeric_dtype(cells):
            continue
        found = [(text, WITH_COMMA.fullmatch(text)) for text in map(str.strip, map(str, cells))]
        for text, match in found if all(match for _, match in found) else ():
            if match and match[2] and (len(match[2]) != 3 or match[1].startswith("0") or len(match[1]) > 3):
                return text
    return ""


def with_points(text: pd.DataFrame) -> pd.DataFrame:
    """A table of text whose numbers have decimal commas, with decimal points and no marks of thousands.

    ValueError where a column holds numbers with decimal points.
    """
    columns: dict[str, pd.Series[Any]] = {}
    for name in text.columns:
        column = text[name].str.strip()
        cells = column.dropna()
        pointed = cells[cells.str.fullmatch(WITH_POINT)]
        if len(pointed) and len(odd := pointed[~pointed.str.fullmatch(THOUSANDS)]):
            raise ValueError(
                f"column {name!r} has decimal points, as in {odd.iloc[0]!r}, and others have decimal commas; write one "
                f"kind"
            )
        if len(cells) and cells.str.fullmatch(WITH_COMMA).all():
            column = column.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
        with suppress(ValueError):
            column = pd.to_numeric(column)
        columns[name] = column
    return pd.DataFrame(columns)


def parse_count(text: str) -> tuple[float, bool] | None:
    """A count in words as a number, and whether the words hold its unit; None for text that is no count."""
    text = text.strip()
    power = POWER.match(text)
    if power:
        try:
            number = float(power[1] or 1) * 10.0 ** int(power[2].translate(SUPERSCRIPTS))
        except (ValueError, OverflowError):
            return None
        unit = text[power.end() :].strip()
    elif found := NUMBER.fullmatch(text):
        number, unit = float(re.sub(r"[,_' \u2019\u00a0\u202f]", "", found[1])), found[2].strip()
    else:
        return None
    factor = unit_factor(unit) if unit else 1.0
    return None if factor is None else (number * factor, bool(power) or factor != 1)


def unit_factor(unit: str) -> float | None:
    """The factor to ones of a unit such as B, million tokens, 1e9, PFLOPs or PF-days; None for another word."""
    text = unit.strip().lower().removesuffix(".")
    for lead in ("in ", "x ", "x", "×", "*"):
        if text.removeprefix(lead) != text and (lead != "x" or text[1:2].isdigit()):
            text = text.removeprefix(lead).strip()
    if PF_DAYS.fullmatch(text):
        return PF_DAY_FLOPS
    magnitude, _, noun = text.partition(" ")
    if noun and noun.removeprefix("of ") not in NOUNS:
        return None
    if magnitude in NOUNS or magnitude == "#":
        return 1.0 if not noun else None
    if magnitude in FACTORS:
        return FACTORS[magnitude]
    if prefixed := re.fullmatch(r"([a-z]+?)flops?", magnitude):
        return PREFIXES.get(prefixed[1])
    if power := re.fullmatch(r"1?e\+?(\d{1,2})|10(?:\^|\*\*)(\d{1,2})|10([⁰¹²³⁴⁵⁶⁷⁸⁹]{1,2})", magnitude):
        return 10.0 ** int(next(part for part in power.groups() if part).translate(SUPERSCRIPTS))
    return None


def split_header(header: str) -> tuple[str, float, str]:
    """A header without its unit, the factor of the unit (1 without one), and the unit: ("Params", 1e9, "B")."""
    bracketed = re.fullmatch(r"(.*\S)\s*[(\[]\s*([^()\[\]]+?)\s*[)\]]\s*", header)
    if bracketed and (factor := unit_factor(bracketed[2])) is not None:
        return bracketed[1], factor, bracketed[2]
    comma = re.fullmatch(r"(.*\S)\s*(?:,|\bin\b|_in_)\s*([\w^-]+)", header)
    if comma and (factor := unit_factor(comma[2])) is not None:
        return comma[1], factor, comma[2]
    trailing = re.fullmatch(r"(.*[A-Za-z])[\s_]+([A-Za-z]+|1e\d+)", header)
    if trailing and trailing[2].lower() not in NOUNS and (factor := unit_factor(trailing[2])) is not None:
        return trailing[1], factor, trailing[2]
    return header, 1.0, ""


def read_numbers(given: "pd.Series[Any]", name: str, header: str = "", *, counts: bool) -> "tuple[pd.Series[Any], str]":
    """A column as floats, NaN where text is no number, and a sentence on the units that were read ("" for none)."""
    numbers = pd.to_numeric(given, errors="coerce")
    if pd.api.types.is_complex_dtype(numbers):
        numbers = pd.Series(np.nan, index=given.index)
    numbers = numbers.astype(float)
    if not counts:
        return numbers, ""
    said = []
    _, factor, unit = split_header(header)
    if factor != 1:
        numbers = numbers * factor
        said.append(f"column {header!r} is in {unit}: values x {factor:g}")
    text = given[numbers.isna() & given.notna()].astype(str)
    if len(text):
        parsed = {one: found for one in text.unique() if (found := parse_count(one)) is not None}
        values = {one: number if united else number * factor for one, (number, united) in parsed.items()}
        read = text.map(values).dropna()
        if len(read):
            numbers = numbers.copy()
            numbers[read.index] = read.astype(float)
            first = text[read.index[0]]
            said.append(f"{len(read):,} values written as {first!r} are read as {float(read.iloc[0]):,.10g}")
    return numbers, f"{name}: {'; '.join(said)}" if said else ""
