"""The two tables of samples, and what training reads of the store."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.training.samples import (
    FACT_COLUMNS,
    SampleFacts,
    SamplesFileError,
    TrainingSample,
    facts_csv,
    parse_samples,
    train_csv,
)

CAPTION = "road with single white solid lane markings"
FACTS = SampleFacts("chunk_0001", "a.front", "f" * 64, "x/1 + y/2", 16, 2_000_000, 0.5, 0.25, "00ff00ff00ff00ff")


def test_train_csv_has_the_columns_of_the_spec_with_the_caption_twice() -> None:
    text = train_csv([TrainingSample("images/a.png", "masks/a.png", CAPTION, CAPTION)])
    (row,) = csv.DictReader(io.StringIO(text))
    assert row == {"image": "images/a.png", "mask": "masks/a.png", "prompt": CAPTION, "prompt_2": CAPTION}


WORDS = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=20).filter(str.strip)


@given(st.lists(st.tuples(WORDS, WORDS, WORDS, WORDS, st.booleans()), max_size=8, unique_by=lambda row: row[0]))
def test_tables_give_back_what_was_written(rows: list[tuple[str, str, str, str, bool]]) -> None:
    samples = [TrainingSample(*texts, FACTS if has_facts else None) for *texts, has_facts in rows]
    assert parse_samples(train_csv(samples), facts_csv(samples), "here") == samples


def test_other_columns_and_a_byte_order_mark_do_not_matter() -> None:
    text = f"\ufeffsplit,prompt_2,image,mask,prompt\ntrain,{CAPTION},a.png,b.png,{CAPTION}\n"
    assert parse_samples(text, None, "here") == [TrainingSample("a.png", "b.png", CAPTION, CAPTION)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,prompt,prompt_2\na,b,c\n", "here/train.csv has no column mask"),
        ("", "here/train.csv has no column image, mask, prompt, prompt_2"),
        ("image,mask,prompt,prompt_2\na.png,,x,y\n", "here/train.csv, line 2: no mask"),
        ("image,mask,prompt,prompt_2\na.png,b.png,x,y\na.png,b.png,x\n", "here/train.csv, line 3: no prompt_2"),
    ],
)
def test_a_table_that_lacks_something_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(SamplesFileError, match=said):
        parse_samples(text, None, "here")


@pytest.mark.parametrize(
    ("column", "value"), [("confidence", "high"), ("frame", "1.5"), ("time_us", "soon"), ("perceptual_hash", "zz")]
)
def test_a_fact_that_is_no_number_is_refused_with_its_line(column: str, value: str) -> None:
    sample = TrainingSample("a.png", "b.png", CAPTION, CAPTION, FACTS)
    cells = facts_csv([sample]).splitlines()[1].split(",")
    cells[FACT_COLUMNS.index(column)] = value
    facts = ",".join(FACT_COLUMNS) + "\n" + ",".join(cells) + "\n"
    with pytest.raises(SamplesFileError, match=r"here/facts.csv, line 2: "):
        parse_samples(train_csv([sample]), facts, "here")


def test_a_sample_states_its_style() -> None:
    sample = TrainingSample("a", "b", CAPTION, "anything")
    assert sample.style == LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID)


MALFORMED = (
    "",
    "road",
    "a lovely road",
    "road with single white solid lane marking",
    "Road with single white solid lane markings",
    "road with  single white solid lane markings",
    "road with single white solid lane markings ",
    " road with single white solid lane markings",
    "road with single white solid lane markings.",
    "road with white single solid lane markings",
    "road with single white lane markings",
    "road with triple white solid lane markings",
    "road with mixed white solid lane markings",
    "road with single blue solid lane markings",
    "road with single white dotted lane markings",
    "road with single, white, solid lane markings",
    "road with single white solid\nlane markings",
    "road with single white solid lane markings\n",
    "road with {count} {color} {pattern} lane markings",
    "a road with single white solid lane markings and a car",
)


@pytest.mark.parametrize("caption", MALFORMED)
def test_a_caption_of_another_form_states_no_style(caption: str) -> None:
    with pytest.raises(ValueError, match="is not of the form 'road with <count> <color> <pattern> lane markings'"):
        _ = TrainingSample("a", "b", caption, CAPTION).style


@pytest.mark.parametrize("count", list(Count))
@pytest.mark.parametrize("color", list(Color))
@pytest.mark.parametrize("pattern", list(Pattern))
def test_every_combination_of_words_is_read_back(count: Count, color: Color, pattern: Pattern) -> None:
    style = LaneStyle(count, color, pattern)
    assert TrainingSample("a", "b", style.caption, "").style == style
