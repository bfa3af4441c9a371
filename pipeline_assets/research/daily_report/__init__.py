"""The report of a day, a week or a month. parts.py is what sections are made of; everything that gives a
figure is in the sections' modules, and everything that draws, lays out and stores is in the edition's.
"""
