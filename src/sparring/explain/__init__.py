"""What a model does around a sample: first as data (here), then as figures (`sparring.explain.figures`)."""

from sparring.explain.landscape import Landscape, Line, Plane, boundary_2d, line, orthogonal, plane
from sparring.explain.saliency import saliency

__all__ = ["Landscape", "Line", "Plane", "boundary_2d", "line", "orthogonal", "plane", "saliency"]
