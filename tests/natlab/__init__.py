"""Tests on real kernels: networks of namespaces with every kind of NAT, which `lab` builds."""
