"""Colours: sRGB in [0, 1] to and from CIELUV and HSV, to CIELAB, and how different two colours look (CIEDE2000).

Colours stand on axis 1. Everything is differentiable, and finite where it is not: at black and at grey.
"""

import math

import torch
from torch import Tensor

TINY = 1e-12
_WHITE = (0.95047, 1.0, 1.08883)  # D65, 2°
_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_CUT, _SLOPE = (6 / 29) ** 3, (29 / 3) ** 3  # where the cube root of lightness gives way to a line, and its slope


def rgb_to_xyz(rgb: Tensor) -> Tensor:
    """CIE XYZ under D65, Y of white being 1."""
    linear = torch.where(rgb > 0.04045, ((rgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    return _mix(linear, rgb.new_tensor(_TO_XYZ))


def xyz_to_rgb(xyz: Tensor) -> Tensor:
    """sRGB; what it cannot show lies outside [0, 1]."""
    linear = _mix(xyz, torch.linalg.inv(torch.tensor(_TO_XYZ, dtype=torch.float64)).to(xyz))
    return torch.where(linear > 0.0031308, 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055, 12.92 * linear)


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """CIELAB: L in [0, 100], a and b about ±100."""
    ratio = rgb_to_xyz(rgb) / _column(rgb, _WHITE)
    root = torch.where(ratio > _CUT, ratio.clamp_min(_CUT) ** (1 / 3), (_SLOPE * ratio + 16) / 116)
    x, y, z = root.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def rgb_to_luv(rgb: Tensor) -> Tensor:
    """CIELUV: L in [0, 100], u in [-84, 176] and v in [-135, 108] for what sRGB can show."""
    x, y, z = rgb_to_xyz(rgb).unbind(1)
    light = torch.where(y > _CUT, 116 * y.clamp_min(_CUT) ** (1 / 3) - 16, _SLOPE * y)
    whole = (x + 15 * y + 3 * z).clamp_min(1e-9)
    u_white, v_white = _white_point()
    return torch.stack([light, 13 * light * (4 * x / whole - u_white), 13 * light * (9 * y / whole - v_white)], 1)


def luv_to_rgb(luv: Tensor) -> Tensor:
    """The inverse of `rgb_to_luv`; black where L is 0."""
    light, u, v = luv.unbind(1)
    u_white, v_white = _white_point()
    scale = 1 / (13 * light.clamp_min(1e-3))
    u, v = u * scale + u_white, (v * scale + v_white).clamp_min(1e-3)
    y = torch.where(light > 8, ((light.clamp_min(8) + 16) / 116) ** 3, light.clamp_min(0) / _SLOPE)
    x, z = y * 9 * u / (4 * v), y * (12 - 3 * u - 20 * v) / (4 * v)
    return xyz_to_rgb(torch.stack([x, y, z], 1))


def rgb_to_hsv(rgb: Tensor) -> Tensor:
    """Hue in [0, 360), saturation and value in [0, 1]; grey has hue 0."""
    value, least = rgb.amax(1), rgb.amin(1)
    chroma = value - least
    red, green, blue = rgb.unbind(1)
    safe = chroma.clamp_min(TINY)
    hue = torch.where(
        value == red,
        (green - blue) / safe % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return torch.stack([60 * hue, chroma / value.clamp_min(TINY), value], 1)


def hsv_to_rgb(hsv: Tensor) -> Tensor:
    """The inverse of `rgb_to_hsv`; hue counts modulo 360."""
    hue, saturation, value = hsv.unbind(1)
    sides = ((offset + hue / 60) % 6 for offset in (5, 3, 1))
    return torch.stack([value * (1 - saturation * torch.minimum(side, 4 - side).clamp(0, 1)) for side in sides], 1)


def ciede2000(one: Tensor, two: Tensor) -> Tensor:
    """The difference ΔE₀₀ of CIELAB colours on axis 1, which goes: about 1 is just noticeable.

    Reference: Sharma, Wu & Dalal, "The CIEDE2000 color-difference formula: implementation notes, supplementary test
    data, and mathematical observations", Color Research and Application 30(1), 2005, equations (2) to (22), with all
    three weights 1.
    """
    (light1, a1, b1), (light2, a2, b2) = one.unbind(1), two.unbind(1)
    seventh = ((_length(a1, b1) + _length(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * _root(seventh / (seventh + 25.0**7))
    a1, a2 = a1 * stretch, a2 * stretch
    chroma1, chroma2 = _length(a1, b1), _length(a2, b2)
    hue1, hue2 = _angle(a1, b1), _angle(a2, b2)
    grey = (chroma1 * chroma2) < 1e-9

    turn = hue2 - hue1
    turn = turn - 2 * math.pi * (turn > math.pi).to(turn.dtype) + 2 * math.pi * (turn < -math.pi).to(turn.dtype)
    turn = torch.where(grey, 0.0, turn)
    total = hue1 + hue2
    far = (hue1 - hue2).abs() > math.pi
    around = torch.where(total < 2 * math.pi, total + 2 * math.pi, total - 2 * math.pi)
    hue = torch.where(grey, total, torch.where(far, around, total) / 2)

    light, chroma = (light1 + light2) / 2, (chroma1 + chroma2) / 2
    rise, growth = light2 - light1, chroma2 - chroma1
    swing = 2 * _root(chroma1 * chroma2) * (turn / 2).sin()
    degree = math.pi / 180
    colour = (
        1
        - 0.17 * (hue - 30 * degree).cos()
        + 0.24 * (2 * hue).cos()
        + 0.32 * (3 * hue + 6 * degree).cos()
        - 0.20 * (4 * hue - 63 * degree).cos()
    )
    off = (light - 50).square()
    rise = rise / (1 + 0.015 * off / (20 + off).sqrt())
    growth, swing = growth / (1 + 0.045 * chroma), swing / (1 + 0.015 * chroma * colour)
    seventh = chroma**7
    blue = 30 * degree * (-(((hue - 275 * degree) / (25 * degree)).square())).exp()
    twist = -2 * _root(seventh / (seventh + 25.0**7)) * (2 * blue).sin()
    return _root(rise.square() + growth.square() + swing.square() + twist * growth * swing)


def _mix(colour: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("ij,nj...->ni...", matrix, colour)


def _column(like: Tensor, values: tuple[float, ...]) -> Tensor:
    return like.new_tensor(values).reshape(1, -1, *[1] * (like.ndim - 2))


def _white_point() -> tuple[float, float]:
    x, y, z = _WHITE
    return 4 * x / (x + 15 * y + 3 * z), 9 * y / (x + 15 * y + 3 * z)


def _root(value: Tensor) -> Tensor:
    """The square root; its slope at 0 is taken to be 0."""
    positive = value > TINY
    return torch.where(positive, value.where(positive, 1.0).sqrt(), 0.0)


def _length(a: Tensor, b: Tensor) -> Tensor:
    return _root(a.square() + b.square())


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """The hue in [0, 2π); 0 for grey."""
    grey = (a.abs() + b.abs()) < 1e-9
    angle = torch.atan2(b.where(~grey, 0.0), a.where(~grey, 1.0))
    return angle + 2 * math.pi * (angle < 0).to(angle.dtype)
