"""Mean and scale of the Laplace law over log SNR learned on the digits, from a start 3 off.

The start is Laplace(3, 0.5), 3 in log SNR from the law of configs/digits_laplace.py. Draws are of
the cosine law, weighted by the ratio of densities; the outer loss is unweighted under the cosine
law. Mean and scale are the `law_mu` and `law_b` of metrics.jsonl and curves.png, and `law` of
result.json, a section for another config: --config.law.mu=... --config.law.b=... of a run with
law.name='laplace'.

Command:      python run.py --config=configs/digits_law_learned.py
Hardware:     two CPU cores.
Paper:        none; the Laplace law (arXiv 2407.03297) has its numbers from trials.
Ours:         after 800 meta-steps mu 1.36, still falling, and b 2.08, where it has been since
              meta-step 300 (seed 0). Runs by these numbers reach .322, by those of the start
              1.41, by the cosine law .348 (three seeds; docs/evidence/log_snr.md).
"""

from ml_collections import ConfigDict

from configs import digits_noise_rater_batch


def get_config() -> ConfigDict:
    config = digits_noise_rater_batch.get_config()
    config.rater = ConfigDict({"name": "law", "mu": 3.0, "b": 0.5})
    config.meta.outer_law = ConfigDict({"name": "cosine"})
    # Decay would pull the law towards Laplace(0, 1), and two numbers need larger steps.
    config.meta.optimizer.update(learning_rate=1e-2, weight_decay=0.0)
    return config
