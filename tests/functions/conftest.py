from __future__ import annotations

import pytest
from functions_hub import Hub


@pytest.fixture
async def hub() -> Hub:
    return Hub()
