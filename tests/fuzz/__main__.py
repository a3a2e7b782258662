"""``python -m tests.fuzz [TARGET …]``: many inputs through every target, a process for each; status 1 if one fails.

With atheris (Linux) the coverage of the code guides what is tried, in bounded memory; elsewhere it is mutations of the
corpus. What reaches code that no input reached before is kept in ``.fuzz/TARGET`` for the next run; with ``--merge``
the smallest of it goes to the corpus, which is checked in. A finding always does, as ``crash-…``.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Final

from tests.fuzz.mutations import LONGEST, TOKENS, Mutator
from tests.fuzz.runs import patience, run
from tests.fuzz.targets import CORPUS, TARGETS, seeds

INPUTS: Final = 1_000_000
MEMORY_MIB: Final = 1024
"""What the process of a target may take; a gateway has 60 of them at start, coverage the rest."""
KEPT_BYTES: Final = 512
"""The longest input that ``--merge`` puts into the corpus."""
SLOW: Final = {
    "http_connections": 20,
    "config_yaml": 50,
    "config_toml": 5,
    "config_json": 3,
    "seals": 5,
    "bridge_files": 5,
    "dotenv_files": 10,
    "dialled_handshakes": 20,
    "last_events": 20,
}
"""How many times longer than the others a target takes for an input; it gets so many times fewer."""
WORK: Final = Path(".fuzz")
_INSTRUMENTED: Final = (
    "mcpgateway",
    "tests.fuzz.targets",
    "tests.fuzz.wire_targets",
    "tests.fuzz.bridge_targets",
    "tests.fuzz.oracles",
)


def shares(inputs: int, names: Sequence[str]) -> dict[str, int]:
    """How many inputs each target gets, of so many in all."""
    weights = {name: 1 / SLOW.get(name, 1) for name in names}
    return {name: int(inputs * weight / sum(weights.values())) + 1 for name, weight in weights.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz every parser's entry.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--inputs", type=int, default=int(os.environ.get("FUZZ_INPUTS", INPUTS)), help="in all")
    parser.add_argument("--merge", action="store_true", help="put what reached new code into the corpus")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**31)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options, flags = parser.parse_known_args(arguments)
    if options.one:
        return _one(options.one, options.inputs, options.seed, flags, merge=options.merge)
    if flags or not {*options.targets} <= {*TARGETS}:
        parser.error(f"cannot make anything of {' '.join([*options.targets, *flags])}")
    names = options.targets or list(TARGETS)
    print(f"seed {options.seed}; {'atheris' if find_spec('atheris') else 'no atheris here: mutations of the corpus'}")
    began, failed, done = time.monotonic(), [], 0
    for name, inputs in shares(options.inputs, names).items():
        before = time.monotonic()
        if _in_process(name, inputs, options.seed):
            failed.append(name)
        elif options.merge:
            _in_process(name, 0, options.seed, "--merge")
        done += inputs
        seconds = time.monotonic() - before
        print(f"{name:20} {inputs:8} inputs {seconds:7.1f} s {inputs / seconds:9.0f} /s", flush=True)
    print(f"{done} inputs in {time.monotonic() - began:.0f} s; findings: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def _in_process(name: str, inputs: int, seed: int, *more: str) -> bool:
    """Run one target in a process of its own; whether it found something. What it says is in ``.fuzz``."""
    (WORK / name).mkdir(parents=True, exist_ok=True)
    log = WORK / f"{name}.log"
    command = [sys.executable, "-m", "tests.fuzz", "--one", name, f"--inputs={inputs}", f"--seed={seed}", *more]
    with log.open("wb") as output:
        failed = subprocess.run(command, stdout=output, stderr=output, check=False).returncode != 0
    if failed:
        print(f"---- {name}, the end of {log}\n{log.read_text(errors='replace')[-3000:]}")
    return failed


# ---- one target ------------------------------------------------------------------------------------------------------


def _one(name: str, inputs: int, seed: int, flags: list[str], *, merge: bool) -> int:
    """``flags`` are libFuzzer's own, with which it starts this process again while it merges."""
    logging.disable(logging.CRITICAL)
    if find_spec("atheris") is not None:
        _guided(name, flags or _flags(name, inputs, seed, merge=merge))
        return 0  # libFuzzer ends the process itself
    if merge:
        return 0
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MIB << 20, MEMORY_MIB << 20))
    mutator = Mutator(Random(seed), list(seeds(name)))
    for _ in range(inputs):
        data = mutator.mutant()
        try:
            run(name, data)
        except BaseException:
            (CORPUS / name / f"crash-{hash(data) & 0xFFFFFFFF:08x}").write_bytes(data)
            raise
    return 0


def _flags(name: str, inputs: int, seed: int, *, merge: bool) -> list[str]:
    found, corpus = str(WORK / name), str(CORPUS / name)
    if merge:
        return ["-merge=1", f"-max_len={KEPT_BYTES}", corpus, found]
    dictionary = WORK / "tokens"
    dictionary.write_text("".join(f'"{"".join(f"{chr(92)}x{byte:02x}" for byte in token)}"\n' for token in TOKENS))
    return [f"-runs={inputs}", f"-seed={seed}", f"-max_len={LONGEST}", f"-dict={dictionary}", found, corpus]


def _guided(name: str, flags: list[str]) -> None:
    import atheris

    for module in [module for module in sys.modules if module.startswith(_INSTRUMENTED)]:
        del sys.modules[module]  # to be imported again, and instrumented
    for name_of_module in ("targets", "wire_targets", "bridge_targets", "oracles"):
        delattr(sys.modules["tests.fuzz"], name_of_module)
    with atheris.instrument_imports(include=["mcpgateway"]):
        from tests.fuzz import targets as instrumented

    target = instrumented.TARGETS[name]

    def guarded(data: bytes) -> None:
        with patience():
            target(data)

    again = f"{sys.executable} -m tests.fuzz --one {name}"
    bounds = [f"-rss_limit_mb={MEMORY_MIB}", "-timeout=20", f"-artifact_prefix={CORPUS / name}{os.sep}"]
    atheris.Setup([again, *bounds, *flags], guarded)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
