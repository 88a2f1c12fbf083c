"""The REST interface: everybody gets their own answer, and each error is one line."""

import asyncio
import io
import json
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from PIL import Image

from glipv2_d2.serve.app import Served, create_app
from glipv2_d2.serve.limits import Limits
from glipv2_d2.serve.page import PAGE
from glipv2_d2.serve.service import Service
from tests.serve.test_uploads import bomb

