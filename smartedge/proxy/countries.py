"""About where the people of each country live: for clients of whom only the country is known (ISO 3166-1 alpha-2 codes).

Of large countries it is where most of them are, not the middle of the map. Where zones are hundreds of kilometres away half a
degree more or less says nothing.
"""

from __future__ import annotations

from typing import Final

from smartedge.balancer.places import Location

_TABLE = """
AD 42.5 1.5, AE 25 55.3, AF 34.5 69, AG 17.1 -61.8, AI 18.2 -63.1, AL 41.3 19.8, AM 40.2 44.5, AO -8.9 13.3, AQ -77.8 166.7,
AR -34.6 -59.5, AS -14.3 -170.7, AT 48 15.5, AU -34.5 147, AW 12.5 -70, AX 60.1 19.9, AZ 40.4 49.5, BA 44 18, BB 13.1 -59.6,
BD 23.8 90.4, BE 50.8 4.4, BF 12.3 -1.6, BG 42.7 24, BH 26.2 50.6, BI -3.4 29.5, BJ 6.5 2.5, BL 17.9 -62.8, BM 32.3 -64.8,
BN 4.9 114.9, BO -17 -66, BQ 12.2 -68.3, BR -20.5 -46, BS 25 -77.4, BT 27.5 89.6, BV -54.4 3.4, BW -24.5 26, BY 53.7 27.8,
BZ 17.4 -88.5, CA 46 -78, CC -12.2 96.8, CD -4.5 18, CF 4.4 18.6, CG -4.3 15, CH 47.2 8, CI 5.6 -4.3, CK -21.2 -159.8,
CL -33.5 -70.8, CM 4.2 10.8, CN 32.5 114, CO 5 -74.8, CR 9.9 -84.1, CU 22.6 -81.5, CV 15 -23.6, CW 12.2 -69, CX -10.5 105.7,
CY 35 33.2, CZ 49.9 15.2, DE 51 9.8, DJ 11.6 43.1, DK 55.7 11, DM 15.4 -61.4, DO 18.7 -70.2, DZ 36.2 3.5, EC -1.5 -79.3,
EE 59 25.5, EG 30 31.2, EH 25 -13.5, ER 15.3 38.9, ES 40 -3, ET 9.2 39, FI 61 24.8, FJ -17.9 178.2, FK -51.7 -57.9,
FM 6.9 158.2, FO 62 -6.8, FR 47.5 2.6, GA 0.2 9.8, GB 52.5 -1.5, GD 12.1 -61.7, GE 41.8 44.3, GF 4.9 -52.6, GG 49.5 -2.5,
GH 6.2 -0.8, GI 36.1 -5.3, GL 64.2 -51.7, GM 13.4 -16.5, GN 9.9 -12.5, GP 16.2 -61.5, GQ 3 9.5, GR 38.3 23.3, GS -54.3 -36.5,
GT 14.7 -90.8, GU 13.5 144.8, GW 11.9 -15.5, GY 6.6 -58, HK 22.3 114.2, HM -53.1 73.5, HN 14.5 -87.2, HR 45.5 16.2,
HT 18.7 -72.4, HU 47.4 19.3, ID -6.8 108.5, IE 53.2 -6.8, IL 32 34.9, IM 54.2 -4.5, IN 22 78.5, IO -7.3 72.4, IQ 33.2 44.3,
IR 34.7 51.2, IS 64.2 -21.5, IT 42.8 12, JE 49.2 -2.1, JM 18 -76.9, JO 31.9 35.9, JP 35.5 138, KE -0.8 36.8, KG 42 73.8,
KH 11.7 104.9, KI 1.4 173, KM -11.9 43.5, KN 17.3 -62.7, KP 39.3 126, KR 37 127.4, KW 29.3 48, KY 19.3 -81.3, KZ 46.5 72,
LA 18 102.7, LB 33.9 35.6, LC 13.9 -61, LI 47.1 9.5, LK 7 80.2, LR 6.4 -10.6, LS -29.4 27.7, LT 55 24.3, LU 49.6 6.1,
LV 56.9 24.3, LY 32.5 14.5, MA 33.4 -7, MC 43.7 7.4, MD 47.1 28.8, ME 42.5 19.2, MF 18.1 -63.1, MG -19 47.2, MH 7.1 171.3,
MK 41.9 21.6, ML 12.8 -7.2, MM 18.5 96.1, MN 47.9 106.8, MO 22.2 113.5, MP 15.2 145.7, MQ 14.6 -61, MR 17.9 -15.4,
MS 16.7 -62.2, MT 35.9 14.4, MU -20.2 57.5, MV 4.2 73.5, MW -14.5 34.5, MX 20.3 -99.8, MY 3.3 102, MZ -18.5 35.5,
NA -20 17.2, NC -22.2 166.4, NE 13.6 4.5, NF -29 168, NG 8 6.2, NI 12.2 -86.2, NL 52.2 5, NO 60.3 9.8, NP 27.5 84.8,
NR -0.5 166.9, NU -19 -169.9, NZ -39 175, OM 23.4 58, PA 9 -79.8, PE -11.5 -76.5, PF -17.6 -149.5, PG -6 145, PH 13.8 121.8,
PK 31 71.5, PL 51.8 19.3, PM 46.8 -56.2, PN -25.1 -130.1, PR 18.3 -66.3, PS 31.8 35, PT 40 -8.7, PW 7.4 134.5, PY -25.4 -57,
QA 25.3 51.5, RE -21.1 55.5, RO 45.6 25.3, RS 44.3 20.8, RU 55.5 46, RW -1.9 30, SA 24.4 44.5, SB -9.3 160, SC -4.6 55.5,
SD 14.8 32.5, SE 58.8 15.8, SG 1.35 103.8, SH -15.9 -5.7, SI 46.1 14.7, SJ 78.2 15.6, SK 48.6 19, SL 8.3 -12.2, SM 43.9 12.5,
SN 14.6 -16.5, SO 3.5 45, SR 5.8 -55.2, SS 6.5 31, ST 0.3 6.7, SV 13.7 -89.1, SX 18 -63.1, SY 34.8 36.8, SZ -26.5 31.4,
TC 21.8 -72.2, TD 11.5 16.5, TF -49.4 70.2, TG 6.8 1.1, TH 14.8 100.8, TJ 38.4 69, TK -9.2 -171.8, TL -8.7 125.7,
TM 38.5 59, TN 36.2 10, TO -21.1 -175.2, TR 39.5 32, TT 10.5 -61.4, TV -8.5 179.2, TW 24.3 120.8, TZ -5.5 35.5, UA 49 32,
UG 0.8 32.3, UM 19.3 166.6, US 38.5 -91, UY -34.6 -56, UZ 40.5 67.5, VA 41.9 12.5, VC 13.2 -61.2, VE 9.9 -67.8,
VG 18.4 -64.6, VI 18.3 -64.9, VN 16 106.4, VU -17.2 168, WF -13.3 -176.2, WS -13.8 -171.9, XK 42.6 21, YE 14.5 44.5,
YT -12.8 45.2, ZA -27.8 28.5, ZM -13.8 28.2, ZW -18.3 30.5
"""


def _read(entry: str) -> tuple[str, Location]:
    code, latitude, longitude = entry.split()
    return code, (float(latitude), float(longitude))


COUNTRIES: Final = dict(map(_read, _TABLE.split(",")))
"""Latitude and longitude in degrees, by code."""
