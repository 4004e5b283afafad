"""The published data sets that can be prepared and checked, by name."""

from data_prep.builders.static_images import STATIC_IMAGES
from data_prep.builders.video_sets import (
    DAVIS2016,
    DAVIS2017,
    YOUTUBE_VOS2018,
    YOUTUBE_VOS2019,
)

DATA_SETS = {
    data_set.name: data_set
    for data_set in (DAVIS2016, DAVIS2017, YOUTUBE_VOS2018, YOUTUBE_VOS2019, STATIC_IMAGES)
}
