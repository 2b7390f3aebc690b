"""The runs to buy next, as `scaling next --json` prints them."""

from typing import Annotated, Literal, NotRequired, TypedDict

from scaling.analysis.schema.forecast import Given
from scaling.analysis.schema.intervals import Estimated


class ProposedRun(TypedDict):
    """Equal runs to buy."""

    params: Annotated[float, "parameters"]
    tokens: Annotated[float, "training tokens"]
    flops: Annotated[float, "FLOPs of one run"]
    shape: Annotated[list[int], "layers, width and heads; empty where the source states no shapes"]
    seeds: Annotated[list[int], "a run each"]
    trained: Annotated[int, "runs of this cell so far"]


class MachinePrice(TypedDict):
    """The price of the proposed runs on a named machine."""

    device: Annotated[str, "device, of which each trains a run at a time"]
    count: Annotated[int, "devices"]
    gpu_hours: Annotated[float, "hours of training, summed over the runs"]
    wall_s: Annotated[float, "wall time, seconds"]
    usd: Annotated[float | None, "dollars of all devices over the wall time; null without a price"]
    ranked_by: Annotated[Literal["flops", "hours", "usd"], "price of a run by which the runs are ranked"]


class Proposal(TypedDict):
    """The whole answer."""

    target: Annotated[dict[Given, float], "target of the forecast"]
    params: Annotated[float, "parameters of the target; the optimum where compute was given"]
    tokens: Annotated[float, "its tokens"]
    level: Annotated[float, "confidence level of the intervals, a share"]
    before: Annotated[Estimated, "forecast loss with its interval by the design's own reckoning, nats per token"]
    after: Annotated[Estimated, "the same once the proposed runs are trained"]
    repeats_only: Annotated[Estimated, "the same if the budget repeated trained cells alone"]
    laws: Annotated[dict[str, float], "weight of each law in the mixture"]
    noise: Annotated[float, "sd of one run's log loss"]
    noise_words: Annotated[str, "origin of the noise"]
    price: Annotated[float, "FLOPs of the proposed runs"]
    budget: Annotated[float, "budget, FLOPs, or in the unit of machine.ranked_by"]
    runs: Annotated[list[ProposedRun], "runs to buy, in the order of purchase"]
    words: Annotated[list[str], "the answer in sentences"]
    machine: NotRequired[Annotated[MachinePrice, "price on a named machine; absent where none was named"]]
