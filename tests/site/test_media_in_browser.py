"""Pictures and videos of two arms over each other, on the page and in the report, in a real browser."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from papertrial.trial import Video
from papertrial.trial.artifacts import encode_artifact

RED, BLUE = (200, 30, 30), (30, 30, 200)
COLOURS = {"baseline": RED, "method": BLUE}
PICTURES, VIDEOS = "Lay pictures over each other", "Play videos over each other, in step"


def plain(colour, height=60, width=90):
    return np.full((height, width, 3), colour, dtype=np.uint8)


@pytest.fixture
def pictured(measure):
    """Return a function that measures, and lets every pair keep a picture and, where it is asked, a video."""

    def make(videos=False, kept_by=lambda arm, seed: True):
        folder = measure()
        for arm, colour in COLOURS.items():
            for seed in range(3):
                if not kept_by(arm, seed):
                    continue
                kept = {"view": plain(colour)}
                if videos:
                    frames = np.stack([plain(colour)] * 24)
                    frames[np.arange(24), :, np.arange(24) * 3] = 255  # a line that walks to the right
                    kept["clip"] = Video(frames, fps=8)  # three seconds
                for name, artifact in kept.items():
                    file, content = encode_artifact(name, artifact)
                    (folder / "artifacts" / f"{arm}@{seed}" / file).write_bytes(content)
        return folder

    return make


@pytest.fixture
def plays_h264(browser):
    page = browser.new_page()
    says = page.evaluate("document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.42E01E\"')")
    page.close()
    if not says:
        pytest.skip("this browser plays no H.264")


def opened(page, summary, until):
    """Open the first sheet's comparison and wait until its pictures or videos are there."""
    details = page.locator("details", has=page.get_by_text(summary, exact=True)).first
    details.locator("summary").click()
    ready = (
        "all => all.length === 2 && all.every(one => one.complete ? one.naturalWidth : one.readyState > 1)"
    )
    until(lambda: details.locator(".over > img, .over > video").evaluate_all(ready))
    return details


def cut_of(overlay):
    clip = overlay.locator(".over > :nth-child(2)").evaluate("one => getComputedStyle(one).clipPath")
    return float(clip.split()[-1].rstrip("%)px"))


def colours_at(overlay, *shares):
    """Return what is seen a quarter up from the bottom, at shares of the width."""
    with Image.open(io.BytesIO(overlay.locator(".over").screenshot())) as shot:
        pixels = np.asarray(shot.convert("RGB"))
    return [tuple(pixels[int(pixels.shape[0] * 0.75), int(pixels.shape[1] * share)]) for share in shares]


def near(colour, wanted):
    return max(abs(int(one) - other) for one, other in zip(colour, wanted, strict=True)) < 12


def drag(page, overlay, start, end):
    overlay.locator(".over").scroll_into_view_if_needed()
    place = overlay.locator(".over").bounding_box()
    middle = place["y"] + place["height"] / 2
    page.mouse.move(place["x"] + place["width"] * start, middle)
    page.mouse.down()
    page.mouse.move(place["x"] + place["width"] * (start + end) / 2, middle, steps=3)
    page.mouse.move(place["x"] + place["width"] * end, middle, steps=3)
    page.mouse.up()


def test_the_divider_is_dragged_with_the_mouse(open_page, pictured, until):
    pictured()
    page = open_page("/papers/lab_paper/")
    overlay = opened(page, PICTURES, until)
    left, right = colours_at(overlay, 0.45, 0.55)
    assert near(left, RED)
    assert near(right, BLUE)
    drag(page, overlay, 0.5, 0.8)
    assert cut_of(overlay) == pytest.approx(80, abs=1)
    left, right = colours_at(overlay, 0.75, 0.85)
    assert near(left, RED)
    assert near(right, BLUE)
    page.mouse.move(0, 0)
    assert cut_of(overlay) == pytest.approx(80, abs=1), "it stays where it was let go"
    drag(page, overlay, 0.1, 1.4)
    assert cut_of(overlay) == 100, "beyond the picture's edge it stands at the edge"
    assert overlay.get_by_role("slider").input_value() == "100"


def test_the_divider_is_moved_by_keyboard_and_by_touch(open_page, pictured, until):
    pictured()
    page = open_page("/papers/lab_paper/", has_touch=True)
    overlay = opened(page, PICTURES, until)
    slider = overlay.get_by_role("slider", name="divider")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert cut_of(overlay) == 49
    page.keyboard.press("Home")
    assert cut_of(overlay) == 0
    assert near(colours_at(overlay, 0.3)[0], BLUE)
    page.keyboard.press("End")
    assert cut_of(overlay) == 100
    overlay.locator(".over").scroll_into_view_if_needed()
    place = overlay.locator(".over").bounding_box()
    page.touchscreen.tap(place["x"] + place["width"] * 0.25, place["y"] + 20)
    assert cut_of(overlay) == pytest.approx(25, abs=1)


def test_any_two_arms_of_any_seed_are_chosen(open_page, pictured, until):
    """The baseline kept no picture of seed 0: the first seed of which both did is what opens."""
    pictured(kept_by=lambda arm, seed: (arm, seed) != ("baseline", 0))
    page = open_page("/papers/lab_paper/")
    overlay = opened(page, PICTURES, until)
    assert overlay.get_by_label("seed").evaluate("one => one.selectedOptions[0].text") == "1"
    assert overlay.locator(".name").all_inner_texts() == ["baseline", "method"]
    overlay.get_by_label("first").select_option(label="method")
    overlay.get_by_label("second").select_option(label="baseline")
    assert overlay.locator(".name").all_inner_texts() == ["method", "baseline"]
    until(lambda: near(colours_at(overlay, 0.2)[0], BLUE) and near(colours_at(overlay, 0.8)[0], RED))
    overlay.get_by_label("seed").select_option(label="0")
    assert overlay.locator(".over > img").count() == 1


def test_one_arm_alone_has_nothing_to_be_laid_over(open_page, pictured):
    pictured(kept_by=lambda arm, seed: arm == "method")
    page = open_page("/papers/lab_paper/")
    assert page.locator("table.sheet img").count() == 3
    assert page.get_by_text(PICTURES).count() == 0


def test_a_video_plays_in_its_cell(open_page, pictured, plays_h264, until):
    pictured(videos=True)
    page = open_page("/papers/lab_paper/")
    videos = page.locator("table.sheet video")
    assert videos.count() == 6
    first = videos.first
    first.scroll_into_view_if_needed()
    facts = first.evaluate("one => [one.muted, one.loop, one.controls, one.playsInline, one.paused]")
    assert facts == [True, True, True, True, True]
    until(lambda: first.evaluate("one => one.readyState > 0"))
    assert first.evaluate("one => [one.videoWidth, one.videoHeight, one.duration]") == [90, 60, 3]
    first.evaluate("one => one.play()")
    until(lambda: first.evaluate("one => one.currentTime > 0.2"))


@pytest.mark.parametrize("media", ["screen", "print"])
def test_a_video_shows_a_still_before_it_plays(open_page, pictured, until, media):
    """The clip itself is held back: what is seen is the poster, on paper too."""
    pictured(videos=True)
    page = open_page("/papers/lab_paper/")
    page.emulate_media(media=media)
    video = page.locator("table.sheet video").first
    video.evaluate("one => { one.removeAttribute('src'); one.load(); }")
    assert video.get_attribute("poster").startswith("data:image/")
    video.scroll_into_view_if_needed()

    def middle():
        box = Image.open(io.BytesIO(video.screenshot())).convert("RGB")
        return box.getpixel((box.width // 2, box.height // 3))

    until(lambda: near(middle(), RED))


def test_two_videos_play_pause_and_jump_in_step(open_page, pictured, plays_h264, until):
    pictured(videos=True)
    page = open_page("/papers/lab_paper/")
    overlay = opened(page, VIDEOS, until)
    times = lambda: overlay.locator("video").evaluate_all("all => all.map(one => one.currentTime)")  # noqa: E731
    paused = lambda: overlay.locator("video").evaluate_all("all => all.map(one => one.paused)")  # noqa: E731
    overlay.get_by_role("button", name="Play").click()
    until(lambda: min(times()) > 0.4)
    assert abs(np.subtract(*times())) < 0.15  # a frame is 0.125 s
    overlay.get_by_role("button", name="Pause").click()
    until(lambda: paused() == [True, True] and len(set(times())) == 1)
    overlay.get_by_role("slider", name="time").fill("0.9")
    until(lambda: times() == [pytest.approx(2.7, abs=0.01)] * 2)
    drag(page, overlay, 0.5, 0.25)
    left, right = colours_at(overlay, 0.1, 0.5)
    assert near(left, RED)
    assert near(right, BLUE)
    overlay.get_by_role("button", name="Play").click()  # over the end and on from the beginning
    until(lambda: 0.3 < times()[0] < 2)
    until(lambda: abs(np.subtract(*times())) < 0.15 and paused() == [False, False])
    overlay.locator("summary").click()
    until(lambda: overlay.locator("video").count() == 0)  # closed, nothing plays on


@pytest.mark.parametrize(
    ("scheme", "width", "language"), [("light", 1280, ""), ("dark", 1280, "ko/"), ("light", 360, "ko/")]
)
def test_what_is_compared_is_accessible_and_fits(
    open_page, pictured, plays_h264, until, scheme, width, language
):
    from axe_playwright_python.sync_playwright import Axe

    pictured(videos=True)
    view = {"viewport": {"width": width, "height": 740}, "color_scheme": scheme}
    page = open_page(f"/{language}papers/lab_paper/", **view)
    words = (VIDEOS, PICTURES) if not language else ("영상을 겹쳐 나란히 재생하기", "그림 겹쳐 보기")
    for says in words:
        opened(page, says, until)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    places = page.locator(".over").evaluate_all("all => all.map(one => one.getBoundingClientRect().right)")
    assert max(places) <= width
    found = [
        one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")
    ]
    assert found == [], [(one["id"], one["nodes"][0]["html"]) for one in found]


@pytest.fixture
def report(pictured, lab, home, browser):
    """Return a function that opens the report from the disk; anything loaded or said by a script fails."""
    from papertrial.trial.report import write_report
    from papertrial.trial.runner import Options, run_trial
    from papertrial.trial.summary import summarise

    pages, problems = [], []

    def make(changed=lambda text: text, videos=False, **context):
        pictured(videos=videos)
        trial = lab.trials()["noise"]()
        result = run_trial("lab_paper", "noise", trial, Options(home, workers=1))
        path = write_report(home, [summarise(lab.card, lab.trials(), {"noise": (trial, result)})])
        path.write_text(changed(path.read_text()))
        page = browser.new_context(**context).new_page()
        pages.append(page)
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: problems.append(str(error)))
        own = (path.as_uri(), "data:")
        page.on(
            "requestfinished", lambda sent: None if sent.url.startswith(own) else problems.append(sent.url)
        )
        page.goto(path.as_uri())
        return page

    yield make
    for page in pages:
        page.context.close()
    assert problems == []


@pytest.mark.parametrize("width", [1280, 360])
def test_the_report_alone_lays_pictures_and_videos_over_each_other(report, plays_h264, until, width):
    page = report(videos=True, viewport={"width": width, "height": 740})
    overlay = opened(page, PICTURES, until)
    drag(page, overlay, 0.5, 0.7)
    assert cut_of(overlay) == pytest.approx(70, abs=1)
    left, right = colours_at(overlay, 0.6, 0.8)
    assert near(left, RED)
    assert near(right, BLUE)
    opened(page, VIDEOS, until).get_by_role("button", name="Play").click()
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_no_other_script_runs_in_the_report(report, until):
    """Were something hostile to come through all escaping, the content policy would still stop it."""
    hostile = (
        "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
        "<svg onload='window.hacked = 3'></svg><a id=trap href='javascript:window.hacked = 4'>here</a>"
        "<iframe srcdoc='<script>parent.hacked = 5</script>'></iframe>"
    )
    page = report(changed=lambda text: text.replace("<main>", f"<main>{hostile}"))
    page.locator("#trap").click()
    overlay = opened(page, PICTURES, until)
    drag(page, overlay, 0.5, 0.3)
    assert cut_of(overlay) == pytest.approx(30, abs=1), "our own runs"
    assert page.evaluate("typeof window.hacked") == "undefined"


def test_the_static_site_compares_videos_from_the_disk(
    browser, rooms, home, pictured, tmp_path, monkeypatch, plays_h264, until
):
    from papertrial.site import library, static_site

    monkeypatch.setattr(library, "discover", lambda: rooms)
    folder = pictured(videos=True)
    root = tmp_path / "site"
    static_site.write_site(home, root)
    copied = root / "papers" / "lab_paper" / "runs" / folder.name / "artifacts" / "method@1" / "clip.mp4"
    assert copied.read_bytes() == (folder / "artifacts" / "method@1" / "clip.mp4").read_bytes()
    page = browser.new_page()
    page.goto((root / "papers" / "lab_paper" / "index.html").as_uri())
    overlay = opened(page, VIDEOS, until)
    overlay.get_by_role("button", name="Play").click()
    until(lambda: overlay.locator("video").evaluate_all("all => all.every(one => one.currentTime > 0.2)"))
    page.close()
