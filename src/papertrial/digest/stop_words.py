"""Words that tell nothing about what a sentence measures, and Korean particles."""

from __future__ import annotations

_GRAMMAR = """
a about above across after again against all almost along already also although always among an and another any
approximately are around as at based be because been before being below best between both but by can could did do
does doing down due during each either else especially even ever every few first for from further had has have
having hence here how however if in instead into is it its itself just last later least less like made make makes
making many may might more moreover most much must namely near nearly neither new next no nor not notably now of
off often on once one only onto or other others our out over own particularly per rather roughly same second
several she should since so some such than that the their them then there thereby these they third this those
though three through throughout thus to together too toward towards two under until up upon us use used uses using
various very via was way ways we well were what when where whereas whether which while who whose why will with
within without would yet you your four five six seven eight nine ten half
"""

# The digest's own phrases, and what every paper says of itself.
_PHRASES = """
ability able achieve achieved achieves achieving additionally address addresses advanced aim aims allow allowing
allows analysis approach approaches article author authors average baseline baselines benchmark benchmarks better
challenge challenges comparable compare compared comparing comparison concise consistent consistently contribution
contributions crucial current data dataset datasets decrease decreased decreases demonstrate demonstrated
demonstrates demonstrating design designed develop developed difference different drop drops effective effectively
effectiveness efficiency efficient efficiently enable enables enabling enhance enhanced enhances ensure evaluate
evaluated evaluation evaluations existing experiment experiments explore explores faster figure finding findings
framework frameworks gain gains general generate generated given guidelines help high higher highest highlight
highlights impact implication implications important improve improved improvement improvements improves improving
include includes including increase increased increases increasing indicate indicates introduce introduced
introduces introducing investigate key large larger largest lead leading leads leverage leverages leveraging limited
low lower lowest main matches matching measured method methodology methods model models multiple novel number
numbers objective obtain obtained obtains offer offers order outperform outperformed outperforming outperforms
overall paper papers percent percentage performance perform performed performs points point potential practitioner
practitioners present presented presents previous primary principal prior problem process propose proposed proposes
provide provided provides providing quality question questions reach reached reaches reaching recent reduce reduced
reduces reducing reduction reductions relative remain remains report reported reports require required requires
research respectively result resulting results reveal robust scale score scored scores set sets setting settings
show showed showing shown shows significant significantly similar single size specific specifically specified
standard state state-of-the-art strategy strong studies study substantial substantially suggest suggests summary
support system systems table task tasks technique techniques test tested thing things time times total train trained
training type types unified unlike value values work works worse yield yielded yielding yields following fold
thousand million billion trillion second seconds minute minutes hour hours
"""

ENGLISH_STOP_WORDS = frozenset((_GRAMMAR + _PHRASES).split())
"""Lower-case English words that are no content terms."""

KOREAN_STOP_WORDS = frozenset(
    [
        "그리고",
        "그러나",
        "하지만",
        "또한",
        "따라서",
        "이를",
        "이는",
        "이러한",
        "이런",
        "그런",
        "통해",
        "통한",
        "대한",
        "대해",
        "위한",
        "위해",
        "의한",
        "의해",
        "있는",
        "있습니다",
        "있다",
        "없는",
        "없다",
        "하는",
        "하여",
        "했습니다",
        "합니다",
        "한다",
        "했다",
        "하였다",
        "되었습니다",
        "됩니다",
        "된다",
        "되는",
        "되어",
        "보다",
        "대비",
        "비해",
        "비하여",
        "기존",
        "기반",
        "가지",
        "경우",
        "결과",
        "결과적으로",
        "특히",
        "모든",
        "여러",
        "다양한",
        "새로운",
        "매우",
        "더욱",
        "가장",
        "약간",
        "이상",
        "이하",
        "미만",
        "초과",
        "정도",
        "각각",
        "같은",
        "동일한",
        "높은",
        "낮은",
        "더",
        "큰",
        "작은",
        "모델",
        "모델은",
        "방법",
        "방법은",
        "논문",
        "논문은",
        "연구",
        "연구는",
        "성능",
        "성능을",
        "향상",
        "향상된",
        "향상되었습니다",
        "향상시켰습니다",
        "개선",
        "개선된",
        "개선되었습니다",
        "감소",
        "감소했습니다",
        "감소시켰습니다",
        "증가",
        "증가했습니다",
        "달성",
        "달성했습니다",
        "달성하였습니다",
        "달성하며",
        "기록",
        "기록했습니다",
        "기록하여",
        "기록하며",
        "보였습니다",
        "보여줍니다",
        "보여주었습니다",
        "나타냈습니다",
        "나타났습니다",
        "제안",
        "제안합니다",
        "제안하는",
        "제시",
        "제시합니다",
        "소개",
        "소개합니다",
        "사용",
        "사용하여",
        "사용합니다",
        "활용",
        "활용하여",
        "적용",
        "적용하여",
        "평가",
        "평가에서",
        "실험",
        "실험에서",
        "실험은",
        "데이터",
        "데이터셋",
        "벤치마크",
        "작업",
        "과제",
        "문제",
        "점수",
        "수준",
        "우수한",
        "뛰어난",
        "효과적",
        "효과적인",
        "효율적",
        "효율적인",
        "평균",
        "평균적으로",
        "최대",
        "최소",
        "최고",
        "퍼센트",
        "포인트",
        "동안",
        "이후",
        "이전",
        "먼저",
        "다음",
        "이번",
        "우리",
        "저자",
        "저자들은",
    ]
)
"""Korean words that are no content terms."""

KOREAN_PARTICLES = (
    "에서는", "으로는", "에서도", "으로써", "으로서", "이라는", "에게서", "에서", "으로", "에는", "에도", "까지",
    "부터", "라는", "보다", "처럼", "만큼", "마다", "이나", "이며", "이고", "로는", "과는", "와는", "은", "는",
    "이", "가", "을", "를", "의", "에", "도", "와", "과", "로", "만",
)  # fmt: skip
"""Particles that may end a Korean word, longest first."""
