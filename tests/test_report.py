"""The report: what it says, in which order, and that nothing it is given can escape into the page."""

import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from sparring.evaluation import Check
from sparring.evaluation.metrics import interval
from sparring.evaluation.report import render
from sparring.evaluation.report_figures import HUES, ticks
from sparring.evaluation.report_fold import SHOWN, choose
from sparring.evaluation.report_numbers import distance, duration, median, percent, quantity
from sparring.evaluation.report_pictures import SIDE, difference, magnification, uri
from sparring.evaluation.report_view import AttackLine, Curve, Proportion, Question, Sample, View
from sparring.evaluation.report_words import bound, headline

VOID = {"meta", "img", "br", "input", "link"}
EVIL = "</title></style></script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"


class Page(HTMLParser):
    """What a reader sees, and whether every tag that opens is closed in its turn."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.raw, self.text = [], [], {"style": "", "script": ""}, ""
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag
        self.text += " " if tag in ("td", "th") else ""

    def handle_data(self, data):
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]] += data
        elif "body" in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def proportion(count: int, of: int) -> Proportion:
    return Proportion(count, of, *interval(count, of))


def picture(row: int, channels: int = 3, height: int = 6, width: int = 5) -> np.ndarray:
    return np.random.default_rng(row).random((channels, height, width)).astype(np.float32)


def broken(row: int, **shape: int) -> Sample:
    clean = picture(row, **shape)
    return Sample(row, "broken", "cat", "cat", "dog", clean, (clean + 0.03).clip(0, 1), "pgd", 0.03)


def view(**changes) -> View:
    """100 images, of which 92 are right and 43 stand."""
    sizes = np.linspace(0, 0.05, 50)
    shares = np.linspace(0.92, 0.2, 50)
    return replace(
        View(
            "netz",
            "Bilder",
            "image",
            Question("L∞ 8/255", 8 / 255, "L∞", None, ("Small changes only.",)),
            proportion(92, 100),
            proportion(43, 100),
            np.where(np.arange(92) < 49, np.linspace(0.001, 8 / 255, 92), np.inf),
            Curve(sizes, shares, shares - 0.05, shares + 0.05, 92),
            (
                AttackLine("pgd", "PGD(steps=40)", 92, 40, 40, 3700, 3600, 12.0),
                AttackLine("square", "Square(queries=500)", 52, 9, 9, 26000, 0, 75.0),
            ),
            (Check("rows are independent", True, "no answer depends on its neighbours"),),
            (*(broken(row) for row in range(3)), Sample(7, "standing", "cat", "cat", "", picture(7))),
            29792,
            3600,
            88.0,
            {"seed": "0", "torch": "2"},
            "sparring evaluate netz",
        ),
        **changes,
    )


def one(count: int, robust: int, **changes) -> View:
    """A single image."""
    distances = np.array([0.01 if robust == 0 else np.inf] if count else [])
    return view(clean=proportion(count, 1), robust=proportion(robust, 1), distances=distances, **changes)


FREE = Question("L2", None, "L2")
TARGET = Question("L∞ 8/255", 8 / 255, "L∞", "cat")
NONE = Curve(*[np.zeros(0)] * 4)
FLAT = tuple(replace(sample, clean=sample.clean.ravel(), perturbed=None) for sample in view().samples)

CASES = {
    "plain": (view(), "Of 100 images, 92.0 % are classified rightly, and 43.0 % still are under L∞ 8/255"),
    "all broken": (view(robust=proportion(0, 100)), "but under L∞ 8/255 none is (95 % interval 0–3.6 %)."),
    "none broken": (
        view(robust=proportion(92, 100), distances=np.full(92, np.inf), attacks=()),
        "92.0 % are classified rightly, and all of these still are under L∞ 8/255",
    ),
    "all right": (view(clean=proportion(100, 100)), "Of 100 images, all are classified rightly, and 43.0 %"),
    "none right": (
        view(clean=proportion(0, 100), robust=proportion(0, 100), distances=np.zeros(0), attacks=(), curve=NONE),
        "Of 100 images, none are classified rightly; there is nothing left to attack.",
    ),
    "one standing": (one(1, 1), "The only image is classified rightly, and no attack could turn it under L∞ 8/255."),
    "one broken": (one(1, 0), "The only image is classified rightly, but an attack could turn it under L∞ 8/255."),
    "one wrong": (one(0, 0), "The only image is classified wrongly before any attack."),
    "one free": (one(1, 0, question=FREE), "a change of L2 0.01 suffices to turn it."),
    "one free standing": (one(1, 1, question=FREE), "the attacks found no change of any size to turn it."),
    "nothing": (
        view(clean=proportion(0, 0), robust=proportion(0, 0), distances=np.zeros(0), samples=(), curve=NONE),
        "Nothing was judged",
    ),
    "free": (
        view(question=FREE, robust=proportion(0, 100), distances=np.linspace(0.1, 1.0, 91)),
        "a change of L2 0.55 suffices to turn half of these (95 % interval of the median 0.45–0.65).",
    ),
    "free, few": (
        view(question=FREE, distances=np.where(np.arange(92) < 20, 0.5, np.inf)),
        "the attacks could turn 20 of these 92, too few to name a median change.",
    ),
    "free, none": (
        view(question=FREE, distances=np.full(92, np.inf), curve=NONE),
        "the attacks found no change of any size to turn one of them.",
    ),
    "targeted": (
        view(question=TARGET),
        "Of 100 images of other classes, 92.0 % are classified rightly, and 43.0 % also resist being turned into “cat”",
    ),
    "targeted, all": (view(question=TARGET, robust=proportion(0, 100)), "all of these can be turned into “cat”"),
    "targeted, free": (
        view(question=replace(FREE, target="cat"), distances=np.linspace(0.1, 1.0, 91)),
        "suffices to turn into “cat” half of these",
    ),
    "failed": (
        view(checks=(Check("gradients exist", False, "all are zero", "use scores"),)),
        "Not to be relied on: 1 check of this evaluation failed.",
    ),
    "idle": (view(checks=(Check("gradients exist", None, "nobody looked"),)), "43.0 %"),
    "bare": (view(checks=(), samples=(), attacks=(), environment={}, rerun="", data="", curve=NONE), "43.0 %"),
    "numbers": (view(samples=FLAT, noun="input"), "Of 100 inputs"),
    "huge": (view(samples=tuple(broken(row, height=300, width=500) for row in range(3))), "43.0 %"),
    "grey": (view(samples=tuple(broken(row, channels=1, height=9, width=3) for row in range(3))), "43.0 %"),
    "proven": (view(certified=proportion(30, 100)), "43.0 %"),
    "many attacks": (
        view(attacks=tuple(AttackLine(f"attack {i}", "A()", 92, 4, 4, 10, 10, 0.1) for i in range(12))),
        "43.0 %",
    ),
}


def plain(text: str) -> str:
    """With ordinary spaces."""
    return " ".join(text.split())


@pytest.mark.parametrize("name", CASES)
def test_every_case_makes_a_whole_page_that_says_what_was_found(name):
    case, words = CASES[name]
    page = Page(render(case))
    assert words in plain(headline(case))
    assert plain(headline(case)) in page.words
    assert not re.search(r"\b(nan|inf|None|Undefined|Markup)\b", page.text)
    for _, attributes in page.tags:
        assert not any(re.search(r"\b(nan|inf)\b", value or "") for key, value in attributes.items() if key != "src")


@pytest.mark.parametrize("name", CASES)
def test_the_page_is_built_for_every_reader(name):
    page = Page(render(CASES[name][0]))
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.all("svg"))
    assert all(head["scope"] in ("row", "col") for head in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [attributes[key] for _, attributes in page.tags for key in attributes if key.startswith("aria-labelledby")]
    assert set(named) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_failed_checks_stand_before_any_number():
    checks = (
        Check("rows are independent", True, "no answer depends on its neighbours"),
        Check("gradients exist", False, "every gradient is zero", "attack with scores"),
        Check("the verdict is steady", False, "two runs differ", "average the model"),
    )
    words = Page(render(view(checks=checks))).words
    first = re.search(r"\d", words)
    assert first is not None
    before = words[: first.start()]
    for said in ("gradients exist", "Every gradient is zero.", "Attack with scores.", "Average the model."):
        assert said in before
    assert "rows are independent" not in before
    assert "provisional" in words
    assert words.index("2 checks of this evaluation failed") > first.start()


def test_the_verdict_stands_before_every_other_number():
    case = view()
    words = Page(render(case)).words
    first = re.search(r"\d", words)
    assert first is not None
    assert words[: first.start()].endswith("Of ")
    assert words[first.start() - 3 :].startswith(plain(headline(case)))
    assert "1 check passed" in words
    assert "provisional" not in words


def test_hostile_words_stay_words():
    sample = replace(broken(1), label=EVIL, before=EVIL, after=EVIL, attack=EVIL)
    case = view(
        model=EVIL,
        data=EVIL,
        noun="image" + EVIL,
        question=Question(EVIL, 0.1, EVIL, EVIL, (EVIL,)),
        attacks=(AttackLine(EVIL, EVIL, 92, 49, 49, 1, 1, 1.0),),
        checks=(Check(EVIL, False, EVIL, EVIL), Check(EVIL, True, EVIL)),
        samples=(sample,),
        environment={EVIL: EVIL},
        rerun=EVIL,
    )
    for page in (
        Page(render(case)),
        Page(render(replace(case, samples=(replace(sample, clean=picture(1).ravel(), perturbed=picture(2).ravel()),)))),
    ):
        assert len(page.all("script")) == 1
        assert "alert" not in page.raw["script"] + page.raw["style"]
        assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
        assert page.words.count(plain(EVIL)) >= 12
        assert "49<" not in page.text


def test_the_page_asks_nothing_of_the_network():
    html = render(view(certified=proportion(30, 100)))
    page = Page(html)
    for _, attributes in page.tags:
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert attributes.get("href", "#").startswith("#")
        assert "style" not in attributes
    assert not page.all("link")
    assert re.findall(r"https?://[^\s\"')]+", html) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in page.raw["style"]
    assert "@import" not in page.raw["style"]


def test_the_policy_lets_in_the_pages_own_style_and_script_and_nothing_else():
    page = Page(render(view()))
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for name in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.raw[name].encode()).digest()).decode()
        assert rules[f"{name}-src"] == f"'sha256-{digest}'"


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_every_word_can_be_read_in_light_and_dark(mode):
    """The contrast that WCAG 2.2 asks for: 4.5 for words (1.4.3), 3 for drawings (1.4.11)."""
    style = Page(render(view())).raw["style"]
    colour = {name: pair.split(", ")[mode] for name, pair in re.findall(r"--(\w[\w-]*): light-dark\(([^)]*)\)", style)}

    def light(name):
        parts = np.array([int(colour[name][at : at + 2], 16) for at in (1, 3, 5)]) / 255
        return float(
            np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
        )

    def contrast(one, other):
        bright, dim = sorted((light(one), light(other)), reverse=True)
        return (bright + 0.05) / (dim + 0.05)

    for paper in ("paper", "raised"):
        assert all(contrast(name, paper) >= 4.5 for name in ("ink", "muted", "link", "bad", "good"))
    assert all(contrast(name, "bad-paper") >= 4.5 for name in ("ink", "bad"))
    drawn = ("still", "mark", "whisker", *(f"hue{index}" for index in range(HUES)))
    assert [name for name in drawn if contrast(name, "paper") < 3] == []


def test_the_numbers_are_those_of_the_view():
    words = Page(render(view())).words
    low, high = (f"{100 * bound:.1f}" for bound in interval(43, 100))
    assert f"{low}–{high} %" in words
    assert "pgd 92 40 43.5 % 40 3,700 3,600 12.0 s" in words
    assert "square 52 9 17.3 % 9 26,000 0 1 min 15 s" in words
    assert "Forward passes 29,792 297.9" in words
    assert "Time 1 min 28 s 880 ms" in words
    assert "PGD(steps=40)" in words


def test_the_bar_of_attacks_holds_every_sample():
    html = render(view())
    stack = re.search(r'<figure class="stack">.*?<svg(.*?)</svg>', html, re.S)
    assert stack is not None
    bars = re.findall(r'<rect class="(\w+)" x="([\d.]+)" y="0" width="([\d.]+)"', stack[1])
    assert [name for name, _, _ in bars] == ["still", "hue0", "hue1", "lost", "wrong"]
    share = {name: (float(width) + 1.5) / 720 for name, _, width in bars if float(width)}
    for name, expected in (("still", 0.43), ("hue0", 0.40), ("hue1", 0.09), ("wrong", 0.08)):
        assert share[name] == pytest.approx(expected, abs=0.001)
    assert "lost" not in share


def test_a_sample_that_only_the_curve_found_has_its_place():
    lines = (AttackLine("pgd", "PGD()", 92, 45, 45, 1, 1, 1.0),)
    assert "found while drawing the curve" in Page(render(view(attacks=lines))).words
    assert "found while drawing the curve" not in Page(render(view())).words


def test_a_small_picture_comes_back_unchanged():
    clean = (picture(3, channels=3) * 255).round() / 255
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri(clean.astype(np.float32)).split(",")[1]))))
    assert np.array_equal(back, (clean * 255).round().astype(np.uint8).transpose(1, 2, 0))


@pytest.mark.parametrize("largest", [1.0, 0.3, 8 / 255, 1 / 255, 1e-4])
def test_the_difference_is_magnified_by_the_factor_it_states(largest):
    clean = np.full((1, 4, 4), 0.5, dtype=np.float32)
    change = np.linspace(-largest, largest, 16, dtype=np.float32).reshape(1, 4, 4) / 2
    address, factor = difference(clean, clean + change)
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))) / 255 - 0.5
    assert np.allclose(back, factor * change[0], atol=5 / 255)
    assert factor == magnification(float(np.abs(change).max()))
    assert factor * largest / 2 <= 1 / 3


def test_one_changed_pixel_of_a_large_picture_is_still_seen():
    clean = np.full((3, 400, 600), 0.5, dtype=np.float32)
    perturbed = clean.copy()
    perturbed[:, 123, 456] = 1
    address, factor = difference(clean, perturbed)
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
    assert max(back.shape) == SIDE
    assert factor == 0.5
    assert (np.abs(back.astype(int) - 128) > 40).sum() == 3


def test_a_gallery_of_large_noise_stays_small():
    samples = tuple(broken(row, height=224, width=224) for row in range(SHOWN))
    assert len(render(view(samples=samples))) < 1_500_000


@pytest.mark.parametrize(("fallen", "standing"), [(0, 0), (0, 50), (50, 0), (3, 2), (8, 40), (40, 1), (500, 500)])
def test_the_gallery_shows_the_smallest_typical_ones_and_those_that_stand(fallen, standing):
    random = np.random.default_rng(0)
    state = random.permutation(np.repeat([0, 1, 2], [fallen, standing, 30]))
    size = np.where(state == 0, random.random(len(state)), np.where(state == 1, np.inf, 0))
    rows = choose(size, state == 0, state == 1)
    kinds = [int(state[row]) for row in rows]
    assert len(rows) == len(set(rows)) == (min(SHOWN, fallen + standing) or SHOWN // 3)
    assert kinds.count(1) >= min(standing, SHOWN // 4)
    assert (2 in kinds) == (fallen + standing == 0)
    shown = [float(size[row]) for row in rows if state[row] == 0]
    assert shown == sorted(shown)
    if fallen:
        assert shown[0] == size[state == 0].min()
        middle = float(np.median(size[state == 0]))
        assert shown[0] <= middle <= shown[-1] or fallen < SHOWN


@pytest.mark.parametrize("end", [0.0007, 0.031, 0.3, 1.0, 7.7, 512.0])
@pytest.mark.parametrize("grey", [False, True])
def test_ticks_are_round_and_few(end, grey):
    values = ticks(end, 5, grey=grey)
    assert values[0] == 0
    assert values[-1] <= end * (1 + 1e-9)
    assert grey or 3 <= len(values) <= 11
    assert all(float(f"{value:.3g}") == pytest.approx(value) for value in values if not grey)


def test_numbers_read_as_a_person_would_write_them():
    assert [plain(percent(share)) for share in (0, 1, 0.4312, 0.9999, 0.00004)] == [
        "0 %",
        "100 %",
        "43.1 %",
        "99.99 %",
        "0.004 %",
    ]
    sizes = (8 / 255, 0.3, 0.5, 2, 1234, np.inf)
    assert [distance(size) for size in sizes] == ["8/255", "0.3", "0.5", "2", "1,234", "none found"]
    assert distance(0.0123, grey=True) == "3.14/255"
    times = (0, 0.0042, 3.21, 59.96, 185, 7500)
    assert [plain(duration(time)) for time in times] == [
        "0 s",
        "4.2 ms",
        "3.2 s",
        "1 min 0 s",
        "3 min 5 s",
        "2 h 5 min",
    ]
    assert [plain(quantity(number)) for number in (12, 12.34, 1234, 46.8e6, 2e9)] == [
        "12",
        "12.3",
        "1,234",
        "46.8 M",
        "2.0 G",
    ]


def test_the_median_counts_what_was_never_found_as_far():
    assert median(np.array([3.0, 1.0, np.inf])) == 3
    assert median(np.array([1.0, np.inf, np.inf])) == np.inf
    assert np.isnan(median(np.zeros(0)))


def test_a_bracket_says_its_two_ends_or_where_they_meet():
    assert "lies between 30.0" in bound(view(certified=proportion(30, 100)))
    assert "is exactly 43.0" in bound(view(certified=proportion(43, 100)))
