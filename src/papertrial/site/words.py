"""The page's own words in the languages it speaks. English text is its own key."""

from __future__ import annotations

from papertrial.errors import unknown

LANGUAGES = {"en": "English", "ko": "한국어"}

KOREAN = {
    # verdicts and fields
    "holds": "성립",
    "fails": "불성립",
    "undecided": "미정",
    "untested": "여기서 미검증",
    "not measured": "미측정",
    "hold": "성립",
    "fail": "불성립",
    "untested here": "여기서 미검증",
    "efficient": "효율",
    "posttrain": "사후 학습",
    "serving": "서빙",
    "perception": "인식",
    "generation": "생성",
    "scenes": "장면",
    "benchmarks": "벤치마크",
    "agents": "에이전트",
    "insight": "해석",
    # navigation and lists
    "By day": "날짜별",
    "All papers": "모든 논문",
    "All claims": "모든 주장",
    "Runs": "실행",
    "Skip to content": "본문으로 건너뛰기",
    "Main": "주 메뉴",
    "Language": "언어",
    "The papers of the day, put on trial": "오늘의 논문을 시험대에",
    "Every paper: its claims, what was found here, how sure, at what scale.": (
        "논문마다 무엇을 주장하는지, 여기서 무엇을 확인했는지, 얼마나 확실한지, 어떤 규모인지."
    ),
    "papers": "논문",
    "paper": "논문",
    "claims": "주장",
    "votes": "추천",
    "Search": "검색",
    "title, name or arXiv id": "제목, 이름, arXiv 번호",
    "Field": "분야",
    "Verdict": "판정",
    "any": "전체",
    "Filter": "거르기",
    "Clear": "지우기",
    "shown": "표시",
    "Nothing matches.": "맞는 것이 없습니다.",
    "Older days": "지난 날짜",
    "No papers were listed on this day.": "이날 올라온 논문이 없습니다.",
    "This day may still grow.": "이날 목록은 아직 늘어날 수 있습니다.",
    "without a day": "날짜 없음",
    "on the docket": "시험 대기",
    "Its card is written; its trial is not built yet.": "카드는 작성되었고, 시험은 아직 만들어지지 않았습니다.",
    "not on trial here": "여기서 시험하지 않음",
    "day": "날짜",
    "field": "분야",
    "name": "이름",
    "here": "여기서",
    "verdicts": "판정",
    "from": "출처",
    "Some cards could not be read": "읽지 못한 카드가 있습니다",
    # numbers of the digest
    "exact": "그대로 있음",
    "rounded": "반올림하면 같음",
    "derived": "논문 수치에서 계산됨",
    "context differs": "값은 있으나 문맥이 다름",
    "absent": "논문에 없음",
    "unverifiable": "확인할 수 없음",
    "numbers borne out by the paper": "논문에서 확인된 수치",
    "Numbers": "수치",
    "This digest's summary": "다이제스트 요약",
    "number": "수치",
    "where the paper has it": "논문의 해당 부분",
    # a paper
    "digest of": "다이제스트",
    "Claims": "주장",
    "claim": "주장",
    "the paper's number": "논문의 수치",
    "here, 95 % interval": "여기서, 95 % 구간",
    "verdict": "판정",
    "margin": "여유",
    "of": "·",
    "against": "대",
    "asked": "요구",
    "after Holm's correction": "홀름 보정 후",
    "at": "규모:",
    "In the small plots the line is the threshold that the claim asks for; in the shaded half, "
    "right of it, the claim holds.": (
        "작은 그림에서 세로선은 주장이 요구하는 기준이고, 그 오른쪽 음영에 들면 주장이 성립합니다."
    ),
    "A verdict at this scale is evidence about the mechanism, not about the paper's tables.": (
        "이 규모의 판정은 메커니즘에 대한 증거이지, 논문의 표에 대한 증거가 아닙니다."
    ),
    "This run was interrupted: it shows what was measured until then.": (
        "이 실행은 중단되었습니다. 그때까지 측정한 것만 보여 줍니다."
    ),
    "arm": "조건",
    "arms": "조건",
    "time": "시간",
    "peak memory": "최대 메모리",
    "tuned": "조정값",
    "at the end of its grid": "격자의 끝값",
    "seed": "시드",
    "seeds": "시드",
    "Evidence": "증거",
    "evidence": "증거",
    "interleaved rounds": "교차 측정 회차",
    "CPU thread(s) a measurement": "측정당 CPU 스레드",
    "The machine was busy while this was timed: repeat it on a quiet one.": (
        "시간을 재는 동안 기계가 바빴습니다. 한가한 기계에서 다시 재십시오."
    ),
    "failed": "실패",
    "traceback": "오류 내용",
    "could not be written": "기록하지 못함",
    "its numbers are in this report only.": "수치는 이 보고서에만 있습니다.",
    "What to know": "알아둘 점",
    "check": "확인 방법",
    "Use it": "사용하기",
    "Real checkpoints": "실제 체크포인트",
    "The paper": "논문",
    "What's new": "새로운 점",
    "Details": "자세히",
    "Results": "결과",
    "Check it": "직접 확인하기",
    "Official code": "공식 코드",
    "licence": "라이선스",
    "changed": "바꿈",
    "machine": "기계",
    "versions": "버전",
    "The tuning sweep, on a seed that is not measured": "조정 과정(측정에 쓰지 않는 시드)",
    "point": "설정값",
    "Every measurement": "모든 측정값",
    "unrounded values": "반올림하지 않은 값",
    "reference run": "기준 실행",
    "CPU cores": "CPU 코어",
    "measured here": "여기서 측정",
    "The trials of this paper cannot be loaded here": "이 논문의 시험을 여기서 불러올 수 없습니다",
    "settings": "설정",
    "trial": "시험",
    "measured": "측정 수",
    "last change": "마지막 변경",
    "defaults": "기본값",
    "compare with": "비교:",
    "Compare": "비교하기",
    "Compare two runs": "두 실행 비교",
    "first": "첫째",
    "second": "둘째",
    "Settings that differ": "다른 설정",
    "The settings are the same.": "설정이 같습니다.",
    "setting": "설정",
    "Metrics": "지표",
    "metric": "지표",
    "change": "변화",
    "Curves": "곡선",
    "These two are runs of different trials: only their settings and verdicts can stand side by side.": (
        "서로 다른 시험의 실행이라 설정과 판정만 나란히 둘 수 있습니다."
    ),
    "A difference between two runs is no verdict: a claim is judged by arms that are paired by seed within one run.": (
        "두 실행의 차이는 판정이 아닙니다. 주장은 한 실행 안에서 시드로 짝지은 조건으로 판정합니다."
    ),
    "Choose two runs of a paper on its page.": "논문 쪽에서 두 실행을 고르십시오.",
    "Lay pictures over each other": "그림 겹쳐 보기",
    "Play videos over each other, in step": "영상을 겹쳐 나란히 재생하기",
    "divider": "구분선",
    "Play": "재생",
    "Pause": "일시 정지",
    "On this page": "이 쪽의 내용",
    # runs
    "Put on trial": "시험하기",
    "Put it on trial": "시험해 보기",
    "Settings": "설정",
    "Empty means: tuned on a seed that is not measured.": "비워 두면 측정하지 않는 시드에서 조정합니다.",
    "How many seeds; empty for the trial's own number": "시드 수(비우면 시험의 기본값)",
    "At the size of a test: quick, and no verdict is kept": "시험용 크기로 빠르게(판정은 남기지 않음)",
    "Start": "시작",
    "Cancel": "취소",
    "Resume": "이어 하기",
    "Nothing is measured twice: what was measured under the same settings is found again.": (
        "같은 설정으로 이미 잰 것은 다시 재지 않습니다."
    ),
    "Runs on this machine": "이 기계의 실행",
    "Nothing was started from this page yet.": "이 쪽에서 시작한 실행이 아직 없습니다.",
    "queued": "대기",
    "running": "실행 중",
    "done": "완료",
    "cancelled": "취소됨",
    "interrupted": "중단됨",
    "state": "상태",
    "started": "시작",
    "elapsed": "걸린 시간",
    "left": "남은 시간",
    "about": "약",
    "Command": "명령",
    "Progress": "진행",
    "step": "단계",
    "waiting": "대기 중",
    "pairs": "쌍",
    "tuning": "조정",
    "measuring": "측정",
    "What it said last": "마지막 출력",
    "See what was found": "결과 보기",
    "before it in the queue": "앞에 대기 중",
    "Evidence on this machine": "이 기계의 증거",
    "Nothing has been measured on this machine yet.": "이 기계에서 잰 것이 아직 없습니다.",
    "older ones are on their papers' pages": "더 오래된 것은 각 논문 쪽에 있습니다",
    # login and errors
    "Token": "토큰",
    "This page asks for the token that papertrial serve printed.": (
        "papertrial serve가 출력한 토큰을 넣어 주십시오."
    ),
    "Open": "열기",
    "There is no such page.": "그런 쪽이 없습니다.",
    "That cannot be done": "할 수 없습니다",
    "Back to the papers": "논문 목록으로",
    "Made by papertrial": "papertrial 제작",
}


def translate(text: str, language: str) -> str:
    """Return one of the page's own texts in a language.

    Raises:
        KeyError: the text has no translation.
        BadInputError: the page does not speak the language.
    """
    if language not in LANGUAGES:
        raise unknown("language", language, LANGUAGES)
    return text if language == "en" else KOREAN[text]
