"""Forecast the next seven days from a CSV file: a GRU that reads the last fourteen.

The file has the weather of Seattle on every day from 2012 to 2015. The first 60 % of the days train the network, the
next 15 % say when to stop, and on the rest it is compared with "each of the next days is as today".

What one learns here: from a CSV file to a forecast, which is the seven lines of `forecast`; standardisation, windows
and splits without leakage; a network that forecasts the change from today has less to learn.

    pip install --no-deps vega_datasets          # the file comes with it, and is read without it
    python examples/forecast_from_csv.py         # a few seconds
    python examples/forecast_from_csv.py --csv other.csv --columns load price     # the first column is forecast
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tinygrad_gru import data, manual_seed, nn, ops, train


def file_of_the_weather() -> Path:
    """The CSV file in the package, which is not imported."""
    package = find_spec("vega_datasets")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("this example needs the weather of vega_datasets: pip install --no-deps vega_datasets")
    return Path(package.submodule_search_locations[0], "_data", "seattle-weather.csv")


def forecast(
    file: Path, columns: list[str], width: int, horizon: int, hidden: int, epochs: int
) -> tuple[np.ndarray, np.ndarray]:
    """The changes of the first column from today, as forecast and in truth: (windows, horizon), in its unit."""
    parts = data.split_by_time(data.read_csv(file).array(columns), (0.6, 0.15, 0.25))
    standardizer = data.Standardizer().fit(parts[0])
    windows = [data.windows(standardizer.transform(part), width, horizon) for part in parts]
    training, validation, test = [(x, y[:, :, 0] - x[:, -1:, 0]) for x, y in windows]
    model = nn.Sequential(nn.GRU(len(columns), hidden, batch_first=True), nn.LastStep(), nn.Linear(hidden, horizon))
    train.fit(model, ops.mse, training, validation=validation, epochs=epochs, lr=3e-3, patience=5)
    return train.predict(model, test[0]) * standardizer.std[0], test[1] * standardizer.std[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, help="another file (default: the weather of Seattle)")
    parser.add_argument("--columns", nargs="+", default=["temp_max", "temp_min", "precipitation", "wind"])
    parser.add_argument(
        "--width", type=int, default=14, help="steps that a forecast is made from (default: %(default)s)"
    )
    parser.add_argument("--horizon", type=int, default=7, help="steps that are forecast (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the windows at most (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=16, help="width of the state (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    manual_seed(options.seed)

    file = options.csv or file_of_the_weather()
    print(data.read_csv(file), end="\n\n")
    forecasts, truth = forecast(file, options.columns, options.width, options.horizon, options.hidden, options.epochs)
    print(f"\nerror of {options.columns[0]} in the {len(truth)} last windows, root of the mean square:\n")
    print(f"{'steps ahead':14}{'network':>10}{'as today':>10}")
    for step in sorted({1, (options.horizon + 1) // 2, options.horizon}):
        errors = [np.sqrt(np.mean((values - truth)[:, step - 1] ** 2)) for values in (forecasts, np.zeros_like(truth))]
        print(f"{step:<14}{errors[0]:10.2f}{errors[1]:10.2f}")


if __name__ == "__main__":
    main()
