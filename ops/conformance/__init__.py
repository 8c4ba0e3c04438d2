"""The integrator's conformance kit: every case of Unbind protocol v1 is played against an endpoint, and judged."""
