"""The main job in small: high noise scheduling on 1,797 real images of digits, within minutes.

Polynomial law (c = 4), predefined Karras levels, sinusoidal curriculum 20 to 250, as in
configs/cifar_poly.py, on the 8x8 digits that come with scikit-learn; class-conditional, so that a
column of the sample grid is one digit.

Command:      python run.py --config=configs/digits_poly.py   (or: make run)
Hardware:     two CPU cores.
Paper:        none; the paper has no digits.
Ours:         see the README's table.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.data = ConfigDict({"dataset": "digits"})
    config.model = ConfigDict({"name": "tiny", "class_conditional": True})
    config.grid = ConfigDict({"name": "predefined", "rule": "nested", "table_size": 251})
    config.law = ConfigDict(
        {"name": "polynomial", "curve": 4.0, "variant": "paper", "sampling": "stratified"}
    )
    config.curriculum = ConfigDict({"name": "sinusoidal", "s0": 20, "s1": 250})
    config.objective = ConfigDict(
        {"name": "consistency", "weight": "inverse_gap", "distance": {"name": "pseudo_huber"}}
    )
    config.optimizer = ConfigDict({"name": "radam", "learning_rate": 1e-3})
    config.ema = ConfigDict({"rate": 0.998})
    config.train = ConfigDict(
        {"steps": 2_200, "batch": 64, "log_every": 50, "sample_every": 550, "checkpoint_every": 550}
    )
    config.sample = ConfigDict({"method": {"name": "multistep", "sigmas": (0.821,)}})
    config.evaluate = ConfigDict({"n": 898})
    return config
