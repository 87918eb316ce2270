"""What a dataset folder says of itself: README.md for people, croissant.json for machines (MLCommons Croissant 1.0).

Called by the dataset commands, with what they know of the samples. Nothing here opens a file.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lanepaint_assets.rendering.markdown import plain
from lanepaint_assets.training.filters import RULE_MEANING, RULES
from lanepaint_assets.training.samples import (
    FACT_COLUMNS,
    FACTS_FILE,
    TRAIN_COLUMNS,
    TRAIN_FILE,
    RefusedRow,
    TrainingSample,
    facts_csv,
    train_csv,
)

CARD_FILE = "README.md"
CROISSANT_FILE = "croissant.json"

CROISSANT = "http://mlcommons.org/croissant/1.0"
DESCRIPTION = (
    "Frames of driving clips with binary masks of the road and normalized captions of the lane markings, for training "
    "an inpainting model to paint lane markings."
)
# Said where nobody named a licence: this project cannot know the one of the clips.
UNNAMED_LICENCE = "the licence of the source clips"

_COLUMN_MEANING = {
    "image": "Frame, sRGB PNG; path relative to this folder.",
    "mask": "Road mask of the same size, grey PNG: 0 keep, 255 road; path relative to this folder.",
    "prompt": "Normalized caption: road with {count} {color} {pattern} lane markings.",
    "prompt_2": "What the second text encoder reads; the same caption.",
    "chunk": "Chunk of clips that the sample was made in.",
    "item": "Clip and camera.",
    "source": "SHA-256 over all that the clip's samples were made from.",
    "engines": "Names and versions of the road segmenter and the lane inspector.",
    "frame": "Index on the clip's frame grid.",
    "time_us": "When the frame was taken, microseconds on the clip's clock.",
    "confidence": "0 to 1, the inspector's trust in the caption.",
    "mask_share": "0 to 1, share of the picture that is road.",
    "perceptual_hash": "64-bit perceptual hash of the frame, hexadecimal.",
}
_NUMBERS = {"frame": "sc:Integer", "time_us": "sc:Integer", "confidence": "sc:Float", "mask_share": "sc:Float"}


@dataclass(frozen=True)
class DatasetStory:
    """How a dataset came about.

    Attributes:
        name: of the dataset; its folder's as a rule.
        url: where it was written to.
        licence: its address or name; see `UNNAMED_LICENCE`.
        made_by: program and version.
        published: date, ISO 8601.
        origin: one sentence: from what and by which rules.
        removed: rule to samples that it removed; empty where nothing was filtered.
        refused: rows of the source that were no usable samples.
        near_duplicates: samples that were left out because they look like others.
    """

    name: str
    url: str
    licence: str
    made_by: str
    published: str
    origin: str
    removed: Mapping[str, int]
    refused: Sequence[RefusedRow]
    near_duplicates: int | None


def dataset_card(samples: Sequence[TrainingSample], story: DatasetStory) -> str:
    """The README.md: what is inside, how many of what, by which engines, from what, and under which terms."""
    facts = [sample.facts for sample in samples if sample.facts is not None]
    lines = [
        "---",
        f"pretty_name: {json.dumps(story.name)}",
        "license: other",
        f"license_name: {json.dumps(story.licence)}",
        "tags: [lane-markings, inpainting, driving]",
        "---",
        f"# {plain(story.name)}",
        "",
        DESCRIPTION,
        "",
        f"{plain(story.origin)} Made by {story.made_by} on {story.published}.",
        "",
        "## What is inside",
        "",
        f"- `{TRAIN_FILE}`: {len(samples)} samples; columns {', '.join(f'`{column}`' for column in TRAIN_COLUMNS)}",
        "- `images/`: the frames; `masks/`: their road masks, 0 keep and 255 road",
        f"- `{FACTS_FILE}`: {len(facts)} rows of what filters ask for and of where each sample comes from",
        f"- `{CROISSANT_FILE}`: the same for machines",
        "",
        "## Samples by lane style",
        "",
        *_table(("caption", "samples"), Counter(sample.prompt for sample in samples).most_common()),
    ]
    if story.removed:
        removed = [(rule, RULE_MEANING[rule], story.removed.get(rule, 0)) for rule in RULES]
        lines += ["", "## Removed by filters", "", *_table(("rule", "because", "samples"), removed)]
    if story.near_duplicates is not None:
        lines += ["", f"Near-duplicates left out when the samples were made: {story.near_duplicates}."]
    if story.refused:
        refused = [(row.row, row.reason) for row in story.refused]
        lines += ["", "## Refused rows of the source", "", *_table(("row", "because"), refused)]
    clips = Counter((fact.chunk, fact.item, fact.engines, fact.source) for fact in facts)
    lines += [
        "",
        "## Lineage",
        "",
        "Each row of `facts.csv` names its clip and, as `source`, a digest of all that its samples were made from.",
        "",
        *_table(
            ("chunk", "clip and camera", "samples", "engines", "source"),
            [
                (chunk, item, count, engines, source[:16])
                for (chunk, item, engines, source), count in sorted(clips.items())
            ],
        ),
        "",
        "Captions and masks are measured by these engines, not by people; a CPU engine's are no foundation model's.",
        "",
        "## Licence",
        "",
        f"Licence named for this dataset: {plain(story.licence)}. The pictures are frames of the source clips and stay",
        "under their terms; read these before passing the folder on. They may show people and number plates.",
    ]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    def line(cells: Sequence[object]) -> str:
        return f"| {' | '.join(plain(str(cell)) for cell in cells)} |"

    return [line(head), f"|{'---|' * len(head)}", *map(line, rows or [["none"] + [""] * (len(head) - 1)])]


def croissant(samples: Sequence[TrainingSample], story: DatasetStory) -> str:
    """The croissant.json: JSON-LD that names the files, their digests, and the columns of both tables."""
    tables = {
        "train": (TRAIN_FILE, TRAIN_COLUMNS, train_csv(samples)),
        "facts": (FACTS_FILE, FACT_COLUMNS, facts_csv(samples)),
    }
    record = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CROISSANT,
        "name": story.name,
        "description": f"{DESCRIPTION} {story.origin}",
        "license": story.licence,
        "url": story.url,
        "version": "1.0.0",
        "datePublished": story.published,
        "creator": {"@type": "sc:Organization", "name": story.made_by},
        "citeAs": f"{story.name}, made by {story.made_by}, {story.published}",
        "distribution": [
            *(
                {
                    "@type": "cr:FileObject",
                    "@id": file,
                    "name": file,
                    "contentUrl": file,
                    "encodingFormat": "text/csv",
                    "sha256": hashlib.sha256(text.encode()).hexdigest(),
                }
                for file, _, text in tables.values()
            ),
            *(
                {
                    "@type": "cr:FileSet",
                    "@id": kind,
                    "name": kind,
                    "encodingFormat": "image/png",
                    "includes": f"{kind}/*.png",
                }
                for kind in ("images", "masks")
            ),
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": name,
                "name": name,
                "key": {"@id": f"{name}/image"},
                "field": [_field(name, file, column) for column in columns],
            }
            for name, (file, columns, _) in tables.items()
        ],
    }
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


def _field(table: str, file: str, column: str) -> dict[str, object]:
    field: dict[str, object] = {
        "@type": "cr:Field",
        "@id": f"{table}/{column}",
        "name": column,
        "description": _COLUMN_MEANING[column],
        "dataType": _NUMBERS.get(column, "sc:Text"),
        "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
    }
    if table == "facts" and column == "image":
        field["references"] = {"field": {"@id": "train/image"}}
    return field


# The context that Croissant 1.0 prescribes.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
