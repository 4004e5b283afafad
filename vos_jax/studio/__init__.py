"""A local page on which objects of a video are marked, followed, corrected and saved."""
