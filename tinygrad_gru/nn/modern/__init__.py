"""Recurrent cells of 2016 to 2024 and their layers: minGRU, minLSTM, SRU, QRNN, LRU, sLSTM.

All but sLSTM keep the state out of their gates, or nearly so: then the next state is linear in the state, unit by unit,
and a scan over time can run in parallel.
"""
