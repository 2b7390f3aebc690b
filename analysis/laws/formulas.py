"""Laws of further columns, each a formula of the language with its source: architecture, recipe and repeated data.

The forms are those of the tasks of Li et al. 2026 (arXiv 2604.22753, the benchmark's `laws.py` of each task), where
that is named; the number is the form's there. A table's own column takes a law's symbol by --rename parallel_size=P.
The values are illustrative.
"""

from collections.abc import Mapping

from scaling.analysis.laws.expression import parse
from scaling.analysis.laws.formula_law import FormulaLaw, declare

BENCHMARK = "Li et al. 2026 (arXiv 2604.22753)"


def _law(
    name: str, formula: str, source: str, example: Mapping[str, float], domain: Mapping[str, tuple[float, float]]
) -> type[FormulaLaw]:
    tree = parse(formula, tuple(domain))
    values = {symbol: example[symbol] for symbol in tree.parameters}
    words = f"{source}; values: illustrative"
    return declare(tree, name=name, equation=f"L = {formula}", source=words, example=values, domain=domain)


FORMULAS: tuple[type[FormulaLaw], ...] = (
    # P parallel streams are worth N (k log P + 1) parameters.
    _law(
        "parallel",
        "E + (A/(N*(k*log(P) + 1)))^alpha",
        f"Chen et al. 2025 (ParScale), as form 5 of the task parallel in {BENCHMARK}",
        {"E": 1.3, "A": 1.1e8, "k": 0.35, "alpha": 0.2},
        {"N": (5e8, 5e9), "P": (1.0, 8.0)},
    ),
    # Floor c of either sign: losses over the unigram's are negative, and need --on linear.
    _law(
        "vocabulary",
        "c + qmean(A*N^-alpha, B*(D*V^phi)^-beta, q)",
        f"form 3 of the task vocab in {BENCHMARK}",
        {"c": 1.2, "A": 90.0, "alpha": 0.25, "B": 400.0, "phi": 0.15, "beta": 0.27, "q": 1.4},
        {"N": (3e7, 3e9), "D": (1e8, 1e11), "V": (4e3, 1e5)},
    ),
    _law(
        "experts",
        "E + A*N^-alpha*X^-beta",
        f"form 1 of the task moe in {BENCHMARK}, X the number of experts",
        {"E": 1.6, "A": 60.0, "alpha": 0.22, "beta": 0.08},
        {"N": (1e7, 1e9), "X": (1.0, 512.0)},
    ),
    # Clark et al. take a saturating count of experts, which is X for E_start = 1 and E_max = infinity.
    _law(
        "experts_bilinear",
        "A*N^-alpha*X^-beta*exp(c*log(N)*log(X))",
        "Clark et al. 2022 (routed language models, arXiv 2202.01169), eq. 1 without its saturation: log L is bilinear "
        "in the logs of N and of the X experts",
        {"A": 12.0, "alpha": 0.082, "beta": 0.2, "c": 0.009},
        {"N": (1e7, 1e9), "X": (1.0, 512.0)},
    ),
    # S is all parameters over the active ones N.
    _law(
        "sparsity",
        "E + A*S^-a*N^-b*exp(c*log(S)*log(N))",
        f"form 1 of the task sparsity in {BENCHMARK}",
        {"E": 1.5, "A": 40.0, "a": 0.5, "b": 0.2, "c": 0.015},
        {"S": (1.5, 16.0), "N": (1e7, 2e9)},
    ),
    # Valleys in log lr and log batch about best values that are powers of N and D.
    _law(
        "lr_batch",
        "E + A*N^-alpha + B*D^-beta + F*valley(lr, M*N^m*D^n) + G*valley(batch, K*D^k)",
        f"the task lr&bsz in {BENCHMARK}, form 3 with curvatures of the valleys that do not depend on scale",
        {
            "E": 1.6, "A": 300.0, "alpha": 0.33, "B": 900.0, "beta": 0.33, "F": 0.02, "M": 1.8, "m": -0.71, "n": 0.31,
            "G": 0.01, "K": 0.6, "k": 0.57,
        },
        {"N": (5e7, 1e9), "D": (2e9, 1e11), "lr": (1e-4, 1e-2), "batch": (3e4, 4e6)},
    ),
    # The unique tokens determine the parameters worth having: R U of them; repeats and excess decay with S and T.
    _law(
        "repeated_data",
        "E + A*effective(N, R*U, T)^-alpha + B*effective(D, U, S)^-alpha",
        f"Muennighoff et al. 2023 with one exponent, as form 3 of the task data_con in {BENCHMARK}",
        {"E": 1.9, "A": 500.0, "R": 0.1, "T": 5.3, "alpha": 0.35, "B": 1500.0, "S": 15.4},
        {"N": (1e7, 9e9), "D": (1e9, 9e11), "U": (1e8, 2e11)},
    ),
)  # fmt: skip
