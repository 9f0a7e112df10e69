"""More than one process, or machine, for one run.

chunk.py    what the network said of a part of a video, in one file
work.py     where a video is cut, and how one part is matted; runs on any worker
workers.py  processes of this machine, or a Ray cluster; both do a lost part again
gathered.py an engine that hands out what the workers found
spread.py   videos handed to workers as the settings say

Only the network is spread.  Everything after it runs once, in one place, over the frames in their
order, so numbers of people do not depend on where the video was cut.
See docs/decisions/0013-scale-out.md.
"""
