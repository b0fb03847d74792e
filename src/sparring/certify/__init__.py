"""Certificates: what no attack of a threat can change, proven; bounds from below, beside those from above."""

from sparring.certify.ablation import Ablated
from sparring.certify.certificate import Certificate
from sparring.certify.exact import exact_distance
from sparring.certify.margins import Method, certify
from sparring.certify.smoothing import Smoothed, SmoothedCertificate, lower_confidence

__all__ = [
    "Ablated",
    "Certificate",
    "Method",
    "Smoothed",
    "SmoothedCertificate",
    "certify",
    "exact_distance",
    "lower_confidence",
]
