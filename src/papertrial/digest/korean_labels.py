"""Korean labels for what a digest entry holds."""

from __future__ import annotations

SECTIONS = {
    "headline": "한 줄 요약",
    "objective": "연구 질문",
    "method": "방법",
    "results": "주요 결과",
    "implication": "시사점",
    "whats_new": "새로운 점",
    "technical": "기술 세부 사항",
    "performance": "성능",
}
"""Sections of a summary by role."""

CATEGORIES = {
    "cs.AI": "인공지능",
    "cs.CL": "자연어 처리",
    "cs.CV": "컴퓨터 비전",
    "cs.LG": "기계 학습",
    "cs.GR": "컴퓨터 그래픽스",
    "cs.HC": "인간-컴퓨터 상호작용",
    "cs.IR": "정보 검색",
    "cs.MA": "다중 에이전트 시스템",
    "cs.MM": "멀티미디어",
    "cs.NE": "신경·진화 컴퓨팅",
    "cs.RO": "로봇공학",
    "cs.SD": "음향",
    "cs.SE": "소프트웨어 공학",
    "cs.CR": "암호·보안",
    "cs.DC": "분산 컴퓨팅",
    "eess.AS": "음성 처리",
    "eess.IV": "영상 처리",
    "stat.ML": "통계적 기계 학습",
}
"""arXiv categories."""
