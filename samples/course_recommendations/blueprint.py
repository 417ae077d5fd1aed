r"""GetCourseRecommendations: several values through one input.

An activity takes one input. Pass several values as a tuple, a list or an object; the annotation of the activity's
parameter says what they are restored to::

    curl "http://localhost:7071/api/durabletask/orchestrators/GetCourseRecommendations?timeout=10&pollingInterval=1" \
         -H "Content-Type: application/json" -d 2

waits up to ten seconds for the output::

    {"major": "ComputerScience", "universityYear": 2, "recommendedCourses": [...]}
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypedDict

import durable_ext as df

bp = df.Blueprint()


class Recommendations(TypedDict):
    major: str
    universityYear: int
    recommendedCourses: list[str]


@bp.orchestration_trigger(context_name="context", orchestration="GetCourseRecommendations")
def get_course_recommendations(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Recommendations]:
    major = "ComputerScience"
    university_year = context.get_input()
    recommendations: Recommendations = yield context.call_activity("CourseRecommendations", (major, university_year))
    return recommendations


@bp.activity_trigger(input_name="student", activity="CourseRecommendations")
def course_recommendations(student: tuple[str, int]) -> Recommendations:
    # Stored as a JSON list, a tuple again here; anything but a text and a whole number fails the activity.
    major, university_year = student
    return {
        "major": major,
        "universityYear": university_year,
        "recommendedCourses": [
            "Introduction to .NET Programming",
            "Introduction to Linux",
            "Becoming an Entrepreneur",
        ],
    }
