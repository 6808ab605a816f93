"""The whole service with an engine that decides nothing, for `bentoml serve served_fake:Fake`."""

from fakes import FakeEngine

from serving.service import service
from serving.settings import Settings

Fake = service(FakeEngine, Settings.read())
