"""What several tests are made with; tests/README.md has the list."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
