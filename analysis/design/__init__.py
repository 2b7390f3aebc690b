"""The design of further runs: forecasts registered before their target trains, and the next runs to buy."""
