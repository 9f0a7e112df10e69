"""Settings are spelled out in configs/ and again in the room that obeys them; here they agree."""

from dataclasses import asdict

from configs.schema import TrackingSettings
from tracking import TrackerSettings


def test_tracking_settings_are_the_trackers_own():
    assert asdict(TrackingSettings()) == asdict(TrackerSettings())
