"""Whether a study is sound: scaling collapse, gradient noise and seed noise, each with a verdict."""
