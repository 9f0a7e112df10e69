"""Who is who over time: mattes in, stable numbers out.  Knows neither networks nor video."""

from tracking.tracker import Tracker, TrackerSettings

__all__ = ["Tracker", "TrackerSettings"]
