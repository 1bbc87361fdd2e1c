"""What the operator says: settings, where they come from, what is wrong with them. No policy lives here."""

from turnrelay.settings.model import LimitSettings, Settings, default_data_dir

__all__ = ["LimitSettings", "Settings", "default_data_dir"]
