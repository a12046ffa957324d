"""Data sets that maps and recordings are of, where their files say so, and the licences of those."""

from __future__ import annotations

__all__ = ["INTERACTION_LICENCE", "INTERACTION_SITES", "commonroad_origin"]

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

_DRONES = "licence of {} for non-commercial research, not to be published (for measuring only)"
_OF_COMMONROAD = (
    (
        "next generation simulation",
        "NGSIM",
        "NGSIM (US Department of Transportation) on lanes of OpenStreetMap (ODbL 1.0), as a whole unclear: for measuring only",
    ),
    ("intersection drone dataset", "inD", _DRONES.format("inD")),
    ("ind-dataset", "inD", _DRONES.format("inD")),
    ("highway drone dataset", "highD", _DRONES.format("highD")),
    ("mona dataset", "MONA", "MONA: no licence stated (for measuring only)"),
    ("interaction dataset", "INTERACTION", INTERACTION_LICENCE),
)


def commonroad_origin(said: str) -> tuple[str, str, bool]:
    """Source and licence of a CommonRoad file by what it says of its source, and whether that is a data set of recordings."""
    said = said.lower()
    for words, name, licence in _OF_COMMONROAD:
        if words in said:
            return f"{name}, by CommonRoad", licence, True
    if "openstreetmap" in said or "osm" in said:
        licence = "ODbL 1.0 (© OpenStreetMap contributors) for the map, unknown for the file"
        return "CommonRoad, from OpenStreetMap", licence, False
    return "unknown (CommonRoad)", "unknown", False
