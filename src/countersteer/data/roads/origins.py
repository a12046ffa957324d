"""Data sets that maps and recordings are of, where their files say so, and the licences of those."""

from __future__ import annotations

__all__ = ["INTERACTION_LICENCE", "INTERACTION_SITES"]

INTERACTION_LICENCE = (
    "INTERACTION data set terms: non-commercial research, not to be published (for measuring only)"
)

INTERACTION_SITES = frozenset(
    {
        "DR_CHN_Merging_ZS", "DR_CHN_Merging_ZS0", "DR_CHN_Merging_ZS2", "DR_CHN_Roundabout_LN", "DR_DEU_Merging_MT",
        "DR_DEU_Roundabout_OF", "DR_USA_Intersection_EP0", "DR_USA_Intersection_EP1", "DR_USA_Intersection_GL",
        "DR_USA_Intersection_MA", "DR_USA_Roundabout_EP", "DR_USA_Roundabout_FT", "DR_USA_Roundabout_SR",
        "DR_Intersection_CM", "DR_LaneChange_ET0", "DR_LaneChange_ET1", "DR_Merging_TR0", "DR_Merging_TR1",
        "DR_Roundabout_RW", "TC_BGR_Intersection_VA",
    }
)  # fmt: skip
"""Names of the places of the INTERACTION data set: of its maps and of the folders of its tables."""
