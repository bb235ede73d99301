"""High-precision values by methods that the package does not use: ``python tests/queueing/mpmath_reference.py``.

M/M/k by the sums of the textbook in 60 digits. Waits in M/G/1 by Talbot's inversion (mpmath.invertlaplace) in 40
digits for gamma service, and by Erlang's alternating sum in 200 digits for constant service.
"""

import json
from pathlib import Path

import mpmath as mp

FILE = Path(__file__).with_suffix(".json")


def mmk(k, rho, times):
    """Delay probability and tail of the response, service of mean 1."""
    mp.mp.dps = 60
    a = mp.mpf(rho) * k
    below = mp.fsum(a**j / mp.factorial(j) for j in range(k))
    last = a**k / mp.factorial(k) * k / (k - a)
    c = last / (below + last)
    drain = k - a
    tails = []
    for t in times:
        if abs(drain - 1) < mp.mpf(10) ** -30:
            after = (1 + t) * mp.exp(-t)
        else:
            after = (drain * mp.exp(-t) - mp.exp(-drain * t)) / (drain - 1)
        tails.append(float((1 - c) * mp.exp(-t) + c * after))
    return {"model": "M/M/k", "k": k, "rho": rho, "delay": float(c), "times": times, "response_tail": tails}


def gamma(rho, times):
    """Service of two stages, mean 1."""
    mp.mp.dps = 40

    def transform(s):
        service = (2 / (2 + s)) ** 2
        return (1 - (1 - mp.mpf(rho)) / (1 - mp.mpf(rho) * (1 - service) / s)) / s

    tails = [float(mp.invertlaplace(transform, t, method="talbot", degree=48)) for t in times]
    return {"model": "M/G/1", "law": "gamma", "rho": rho, "times": times, "wait_tail": tails}


def deterministic(rho, times):
    """Constant service of 1."""
    mp.mp.dps = 200
    tails = []
    for t in times:
        x = [mp.mpf(rho) * (j - mp.mpf(t)) for j in range(int(t) + 1)]
        tails.append(
            float(1 - (1 - mp.mpf(rho)) * mp.fsum(mp.exp(-y) * y**j / mp.factorial(j) for j, y in enumerate(x)))
        )
    return {"model": "M/G/1", "law": "deterministic", "rho": rho, "times": times, "wait_tail": tails}


if __name__ == "__main__":
    cases = [mmk(k, rho, [0.1, 1.0, 5.0]) for k in (1, 2, 64, 1000) for rho in (0.5, 0.9, 0.999)]
    for law in (gamma, deterministic):
        cases += [law(0.5, [0.5, 2.25, 8.0]), law(0.9, [0.5, 7.25, 40.0]), law(0.99, [3.25, 40.0, 90.5])]
    FILE.write_text(json.dumps({"command": "python tests/queueing/mpmath_reference.py", "mpmath": mp.__version__,
                                "cases": cases}, indent=1) + "\n")  # fmt: skip
