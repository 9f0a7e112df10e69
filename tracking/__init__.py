"""Who is who over time: mattes in, stable numbers out.  Knows neither networks nor video."""

from tracking.tracker import Pin, Tracker, TrackerSettings

__all__ = ["Pin", "Tracker", "TrackerSettings"]


