"""Model tests are collected on machines without a GPU too, where they say that they are skipped."""

from __future__ import annotations

import lanepaint_assets_tests.torchvision_ops  # noqa: F401
