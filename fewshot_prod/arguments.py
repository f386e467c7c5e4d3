"""What the command lines of several scripts share: which catalog, what to measure, how bad input is answered."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fewshot_prod.errors import MissingPackage, UsageError

if TYPE_CHECKING:
    from fewshot_prod.catalog import Catalog
    from fewshot_prod.rows import Row
    from fewshot_prod.settings import Setting
    from fewshot_prod.splits import Split

Source = Literal["synthetic", "grocery", "fashion", "omniglot", "table"]


@dataclass(frozen=True)
class Columns:
    """How a table is read: its columns' names where they are not the usual ones ("": it has none), and its text."""

    image: str | None = None
    """Image path, relative to the table's folder."""
    title: str | None = None
    """Title."""
    category: str | None = None
    """Category."""
    id: str | None = None
    """Product id."""
    parent: str | None = None
    """Parent category."""
    group: str | None = None
    """Number or name that near-duplicates share."""
    split: str | None = None
    """The catalog's own train/test split."""
    encoding: str | None = None
    """Of a text table, where it is not UTF-8: gbk, cp1252, utf-16."""
    delimiter: str | None = None
    """Of a text table, where it is not the one that the header suggests; \\t is a tab."""

    def options(self) -> dict[str, str]:
        """What is given, as options of ``load_catalog``."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {name if name in ("encoding", "delimiter") else f"{name}_column": given[name] for name in given}


@dataclass(frozen=True)
class SourceArgs:
    """Which catalog, and how it is read."""

    catalog: Source = "synthetic"
    """Which catalog."""
    root: Path | None = None
    """Its folder or file; default $FEWSHOT_PROD_DATA/NAME, else data/NAME."""
    columns: Columns = field(default_factory=Columns)
    """Names of a table's columns."""
    strict: bool = False
    """Stop at the first bad row instead of leaving bad rows out and reporting them."""

    def load(self, **options: Any) -> Catalog:
        """The catalog; ``options`` of its loader beside those given here."""
        from fewshot_prod.catalog import load_catalog

        return load_catalog(self.catalog, self.root, strict=self.strict, **self.columns.options(), **options)


CatalogSource = Annotated[SourceArgs, tyro.conf.arg(name="")]  # as a field: --catalog, --root, ... without a prefix


@dataclass(frozen=True)
class CatalogArgs:
    """Which catalog, and how its categories are dealt into base, validation and novel ones."""

    source: CatalogSource = field(default_factory=SourceArgs)
    """Which catalog."""
    split: str | None = None
    """A name in data/splits/ or a path; default the catalog's own."""

    def load(self) -> tuple[Catalog, Split]:
        """The catalog and its split; how many of its categories the split does not name is printed, and how many base
        products have near-duplicates in another part. A table's split is named after the table too.

        Raises:
            CatalogError: as :meth:`read` does, or if they do not fit: the split names a category that the catalog does
                not have, or deals a parent to two sides where it says not to.
        """
        from fewshot_prod.catalog import data_folder
        from fewshot_prod.names import first_few

        catalog, split = self.read()
        split.check_names(catalog)
        split.check_parents(catalog)
        if unnamed := split.unnamed_categories(catalog):
            n = f"{len(unnamed)} of {len(catalog.categories)}"
            print(f"{n} categories take no part, not being in split {split.name}: {first_few(unnamed)}")
        for part in ("novel", "validation"):  # told, and trained on all the same
            base, other = split.near_duplicates(catalog, part)
            if n := int(base.sum()):
                names = first_few(sorted(set(catalog.frame["category"][other])))
                print(f"{n} base products have near-duplicates among {part} ones ({int(other.sum())}, of {names})")
        if catalog.name == "table":  # results and encoders of two tables lie apart
            table = table_name(self.source.root or data_folder("table"))
            split = replace(split, name=f"{table}_{split.name if self.split else 'random'}")
        return catalog, split

    def read(self) -> tuple[Catalog, Split]:
        """Both as they are; Omniglot with rotations as further classes, as its published numbers have it.

        Raises:
            CatalogError: if either cannot be read, or the split has the name of a shipped one and other categories.
        """
        from fewshot_prod.splits import default_split, read_split, refuse_shipped_name, with_rotations

        turned = self.source.catalog == "omniglot"
        catalog = self.source.load(**({"rotations": True} if turned else {}))
        split = read_split(self.split) if self.split else default_split(catalog)
        if self.split and catalog.name != "table":  # whose split is named after the table too
            refuse_shipped_name(split)
        return catalog, with_rotations(split) if turned else split


Data = Annotated[CatalogArgs, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class MeasureArgs:
    """How much is measured, and where it is kept."""

    seeds: tuple[int, ...] = (0,)
    """Training seeds."""
    rows: tuple[str, ...] = ()
    """Only these rows; default all."""
    episodes: int = 10_000
    """Episodes of feature methods. A file that holds rows over more of them is not replaced: name another."""
    episodes_adapting: int = 200
    """Episodes of methods that change the encoder: the first ones of the same sequence. Likewise."""
    results: Path | None = None
    """The JSONL file; None: where the text above says."""
    runs: Path = Path("runs/encoders")
    """Where trained encoders are kept and looked for."""
    smoke: bool = False
    """A run of seconds through the same code, to see that it works; its numbers mean nothing."""

    def measure(
        self,
        experiment: str,
        rows: Sequence[Row],
        settings: Sequence[Setting],
        catalog: Catalog,
        split: Split,
        *,
        name: str,
        folder: Path = Path("experiments/results"),
        part: str = "novel",
    ) -> tuple[Path, int]:
        """Measure the rows that ``self.rows`` names; see :func:`fewshot_prod.cells.measure_table`.

        Args:
            name, folder: of the results file, unless ``self.results`` names it; a smoke run's lies in runs/smoke.

        Returns:
            The results file, and the script's exit code: 1 if a cell failed. Where no cell is in the file, it stops
            the script with that code.

        Raises:
            UnknownName: for a row that there is not.
            ResultsError: if the file holds a row over more episodes.
        """
        from fewshot_prod.cells import measure_table
        from fewshot_prod.recipes import SMOKE
        from fewshot_prod.results import read_records
        from fewshot_prod.rows import choose_rows

        runs, seeds, episodes, adapting = self.runs, self.seeds, self.episodes, self.episodes_adapting
        if self.smoke:
            runs = folder = Path("runs/smoke")
            seeds, episodes, adapting = seeds[:1], 20, 2
            catalog = catalog.take_groups(12)
            settings = [
                replace(setting, n_query=min(setting.n_query, 5)) for setting in settings if setting.n_shot <= 5
            ]
        results = self.results or folder / f"{name}.jsonl"
        check_output(results)
        failures = measure_table(
            experiment,
            choose_rows(rows, self.rows),
            settings,
            catalog=catalog,
            split=split,
            seeds=seeds,
            results=results,
            runs=runs,
            n_episodes=episodes,
            n_episodes_adapting=adapting,
            part=part,
            overrides=SMOKE if self.smoke else None,
        )
        if not results.exists() or not any(record["kind"] == "cell" for record in read_records(results)):
            sys.exit(f"nothing was measured into {results}: why stands above")
        return results, 1 if failures else 0


Measure = Annotated[MeasureArgs, tyro.conf.arg(name="")]


def check_seeds(args: Any) -> None:
    """Raise UsageError naming the option if a seed in these arguments is negative."""
    for name, value in vars(args).items():
        if is_dataclass(value):
            check_seeds(value)
        for seed in {"seed": (value,), "seeds": value}.get(name, ()):
            if seed < 0:
                raise UsageError(f"--{name} {seed}: give 0 or more")


def table_name(path: Path) -> str:
    """What is kept of the table at ``path`` is called: its file's name and 6 hex digits that tell its folder."""
    path = path.resolve()
    return f"{path.stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"


def check_output(path: Path, keep: Sequence[Path | None] = ()) -> None:
    """Make the folder of a file that a long run will write, so that what is wrong with it is told before.

    Args:
        keep: files and folders of files that are read, and must not be written.

    Raises:
        UsageError: if the path is one of those, or in one, or a folder's, or its folder cannot be made or written into.
    """
    inputs = {kept.resolve() for kept in keep if kept}
    folder = path.resolve().parent
    among = folder in inputs and folder.is_dir()
    if path.resolve() in inputs or (among and path.is_file()):
        raise UsageError(f"{path} is read here and would be overwritten: give another file to write")
    if among and path.suffix.lower() in (".csv", ".tsv", ".parquet"):
        raise UsageError(f"{path} would lie beside a table that is read by its folder: give another folder")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: give the file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}: {error.filename}") from None
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{path} cannot be written: no permission")


def run_script(main: Callable[[Any], int], arguments: type, description: str) -> int:
    """Run an experiment script: parse its ``Args`` and see how it ends, see :func:`answered`."""
    args = tyro.cli(arguments, description=description.replace("``", "`"))

    def checked() -> int:
        check_seeds(args)
        return main(args)

    kept = "interrupted: what is finished is kept, and the same command goes on from there"
    return answered(checked, interrupted=kept)


def answered(run: Callable[[], int], *, interrupted: str = "interrupted") -> int:
    """Run a command; what was given wrongly is answered by one line, no traceback.

    Args:
        interrupted: what to say when it is stopped from the keyboard.

    Returns:
        The exit code: ``run``'s; 2 for bad input, or where a package is missing; 130 when interrupted.
    """
    try:
        return run()
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return 130
    except (ImportError, ValueError, OSError) as error:
        from fewshot_prod.catalog import CatalogError
        from fewshot_prod.checkpoints import CheckpointError
        from fewshot_prod.names import UnknownName
        from fewshot_prod.results import ResultsError

        bad_input = (CatalogError, CheckpointError, ResultsError, UnknownName, UsageError)
        no_access = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
        if not isinstance(error, (MissingPackage, *bad_input, *no_access)):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
