"""Every benchmark, one after another, and what each said, for the README's table of speed.

Command:   .venv/bin/python benchmarks/record_all.py, on an idle machine; then ``make tables``
Takes:     ten minutes on 2 CPU cores
Writes:    benchmarks/results.jsonl, a line for each benchmark: its ratio, all that it printed, the device, the commit.
           One that fails keeps its old line, is listed at the end, and makes the exit code 1
"""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from pathlib import Path

import tyro

from fewshot_prod.provenance import commit, device_name, versions
from fewshot_prod.storage import write_whole

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.jsonl"
COMMANDS = (
    "episode_evaluation.py",
    "methods_vs_easyfsl.py",
    "pretrain_throughput.py",
    "image_decode.py --source fashion",
    "image_decode.py --source grocery --height 160 --width 160",
    "image_cache.py",
    "title_throughput.py",
    "maml_step.py",
    "maml_step.py --first-order",
)


def main(only: str = "") -> int:
    """Run every benchmark and write benchmarks/results.jsonl anew, in ten minutes on an idle machine.

    Args:
        only: run those whose command has this in it; the others keep their lines.
    """
    chosen = [command for command in COMMANDS if only in command]
    if not chosen:
        sys.exit(f"--only {only!r} is in none of the commands; they are: {', '.join(COMMANDS)}")
    earlier = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    kept, failed = {record["command"]: record for record in earlier}, []
    for command in chosen:
        name, *options = shlex.split(command)
        print(f"\n{command}", flush=True)
        run = subprocess.run([sys.executable, FOLDER / name, *options], stdout=subprocess.PIPE, text=True, check=False)
        print(run.stdout)
        lines = run.stdout.splitlines()
        if run.returncode or not (lines and lines[-1].startswith("ratio: ")):
            failed.append(command)
            continue
        about = ast.get_docstring(ast.parse((FOLDER / name).read_text(encoding="utf-8"))).splitlines()[0]
        kept[command] = {
            "command": command,
            "about": about.rstrip("."),
            "ratio": float(lines[-1].removeprefix("ratio: ")),
            "printed": lines[:-1],
            "device": device_name(),
            "commit": commit(),
            "versions": versions(),
        }
        text = "".join(json.dumps(kept[one]) + "\n" for one in COMMANDS if one in kept)
        write_whole(RESULTS, lambda path, text=text: path.write_text(text, encoding="utf-8"))
    print(f"records in {RESULTS}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
