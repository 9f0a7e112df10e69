"""A z-buffer on the CPU, compiled by Numba: solid triangles, then blended ones from far to near.

Samples lie on a grid finer than the pixels; averaging them gives alpha by area, exact to the
number of samples, and the alpha of hair textures on top of it.  Colour here is linear light.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FAST = {"nnan", "ninf", "nsz", "arcp", "contract", "reassoc"}


@njit(cache=True, fastmath=FAST)
def solid(
    screen: np.ndarray, triangles: np.ndarray, drawn: np.ndarray, one_sided: np.ndarray,
    inverse_depth: np.ndarray, owner: np.ndarray,
) -> None:  # fmt: skip
    """Draw triangles into `inverse_depth` (H, W), zeros at first, and `owner` (H, W), their index.

    screen (V, 3): x, y in samples (centres at .5), 1 / distance; not positive = behind the camera.
    drawn (T,): triangles to draw.  one_sided (T,): not drawn when seen from behind.
    """
    height, width = inverse_depth.shape
    for t in range(triangles.shape[0]):
        if not drawn[t]:
            continue
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0, w0 = screen[a, 0], screen[a, 1], screen[a, 2]
        x1, y1, w1 = screen[b, 0], screen[b, 1], screen[b, 2]
        x2, y2, w2 = screen[c, 0], screen[c, 1], screen[c, 2]
        if w0 <= 0 or w1 <= 0 or w2 <= 0:
            continue
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0 or (area > 0 and one_sided[t]):
            continue  # y runs down, so what faces us turns the other way round
        left = max(0, int(np.ceil(min(x0, x1, x2) - 0.5)))
        right = min(width - 1, int(np.floor(max(x0, x1, x2) - 0.5)))
        top = max(0, int(np.ceil(min(y0, y1, y2) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(y0, y1, y2) - 0.5)))
        if left > right or top > bottom:
            continue
        scale = 1.0 / area
        # Shares of the corners are affine in x and y: e = px * x + py * y + p
        p0x, p0y = (y1 - y2) * scale, (x2 - x1) * scale
        p1x, p1y = (y2 - y0) * scale, (x0 - x2) * scale
        for y in range(top, bottom + 1):
            fy = y + 0.5
            e0 = p0x * (left + 0.5 - x2) + p0y * (fy - y2)
            e1 = p1x * (left + 0.5 - x2) + p1y * (fy - y2)
            for x in range(left, right + 1):
                e2 = 1.0 - e0 - e1
                if e0 >= 0 and e1 >= 0 and e2 >= 0:
                    w = e0 * w0 + e1 * w1 + e2 * w2
                    if w > inverse_depth[y, x]:
                        inverse_depth[y, x] = w
                        owner[y, x] = t
                e0 += p0x
                e1 += p1x


@njit(cache=True, fastmath=FAST)
def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals, each the area-weighted mean of the triangles around."""
    normals = np.zeros_like(vertices)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1]
        uz = vertices[b, 2] - vertices[a, 2]
        vx, vy = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1]
        vz = vertices[c, 2] - vertices[a, 2]
        n = (uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx)
        for k in range(3):
            normals[a, k] += n[k]
            normals[b, k] += n[k]
            normals[c, k] += n[k]
    for v in range(len(normals)):
        length = np.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2)
        if length > 0:
            for k in range(3):
                normals[v, k] /= length
    return normals


@njit(cache=True, fastmath=FAST, inline="always")
def _texel(
    texels: np.ndarray, table: np.ndarray, u: float, v: float, linear: np.ndarray
) -> tuple[float, float, float, float]:
    """Bilinear sample of one texture of the pack: linear RGB and alpha, 0 to 1.  It repeats."""
    start, height, width = table[0], table[1], table[2]
    u, v = (u - np.floor(u)) * width - 0.5, (v - np.floor(v)) * height - 0.5
    x0, y0 = int(np.floor(u)), int(np.floor(v))
    fx, fy = u - x0, v - y0
    x1, y1 = (x0 + 1) % width, (y0 + 1) % height
    x0, y0 = x0 % width, y0 % height
    p00, p01 = start + (y0 * width + x0) * 4, start + (y0 * width + x1) * 4
    p10, p11 = start + (y1 * width + x0) * 4, start + (y1 * width + x1) * 4
    w00, w01 = (1 - fx) * (1 - fy), fx * (1 - fy)
    w10, w11 = (1 - fx) * fy, fx * fy
    r = (linear[texels[p00]] * w00 + linear[texels[p01]] * w01
         + linear[texels[p10]] * w10 + linear[texels[p11]] * w11)  # fmt: skip
    g = (linear[texels[p00 + 1]] * w00 + linear[texels[p01 + 1]] * w01
         + linear[texels[p10 + 1]] * w10 + linear[texels[p11 + 1]] * w11)  # fmt: skip
    b = (linear[texels[p00 + 2]] * w00 + linear[texels[p01 + 2]] * w01
         + linear[texels[p10 + 2]] * w10 + linear[texels[p11 + 2]] * w11)  # fmt: skip
    a = (texels[p00 + 3] * w00 + texels[p01 + 3] * w01
         + texels[p10 + 3] * w10 + texels[p11 + 3] * w11)  # fmt: skip
    return r, g, b, a / 255.0


@njit(cache=True, fastmath=FAST)
def cut(
    screen: np.ndarray, triangles: np.ndarray, drawn: np.ndarray, uv: np.ndarray,
    material: np.ndarray, texels: np.ndarray, tables: np.ndarray, inverse_depth: np.ndarray,
) -> None:  # fmt: skip
    """Like `solid`, depth alone, where the texture is at least half opaque: hair's shadow."""
    height, width = inverse_depth.shape
    for t in range(triangles.shape[0]):
        if not drawn[t]:
            continue
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0, w0 = screen[a, 0], screen[a, 1], screen[a, 2]
        x1, y1, w1 = screen[b, 0], screen[b, 1], screen[b, 2]
        x2, y2, w2 = screen[c, 0], screen[c, 1], screen[c, 2]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0 or w0 <= 0 or w1 <= 0 or w2 <= 0:
            continue
        left = max(0, int(np.ceil(min(x0, x1, x2) - 0.5)))
        right = min(width - 1, int(np.floor(max(x0, x1, x2) - 0.5)))
        top = max(0, int(np.ceil(min(y0, y1, y2) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(y0, y1, y2) - 0.5)))
        scale = 1.0 / area
        start, tall, wide = tables[material[t], 0], tables[material[t], 1], tables[material[t], 2]
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                fx, fy = x + 0.5, y + 0.5
                e0 = ((y1 - y2) * (fx - x2) + (x2 - x1) * (fy - y2)) * scale
                e1 = ((y2 - y0) * (fx - x2) + (x0 - x2) * (fy - y2)) * scale
                e2 = 1.0 - e0 - e1
                if e0 < 0 or e1 < 0 or e2 < 0:
                    continue
                w = e0 * w0 + e1 * w1 + e2 * w2
                if w <= inverse_depth[y, x]:
                    continue
                u = e0 * uv[t, 0, 0] + e1 * uv[t, 1, 0] + e2 * uv[t, 2, 0]
                v = e0 * uv[t, 0, 1] + e1 * uv[t, 1, 1] + e2 * uv[t, 2, 1]
                px = int((u - np.floor(u)) * wide) % wide
                py = int((v - np.floor(v)) * tall) % tall
                if texels[start + (py * wide + px) * 4 + 3] > 127:
                    inverse_depth[y, x] = w


@njit(cache=True, fastmath=FAST, inline="always")
def _lit(x: int, y: int, lx: float, ly: float, lz: float, shadow: np.ndarray, bias: float) -> float:
    """Share of the key light that reaches a point; lx, ly in texels, lz grows towards the light.

    Four places around it, turned by a hash of the sample: neighbours average to a soft edge.
    """
    height, width = shadow.shape
    turn = (x * 374761393 + y * 668265263) & 0x7FFFFFFF
    turn = ((turn ^ (turn >> 13)) * 1274126177) & 0x7FFFFFFF
    angle = (turn & 1023) * (2 * np.pi / 1024)
    cos, sin = np.cos(angle) * 1.7, np.sin(angle) * 1.7
    reached = 0.0
    for dx, dy in ((cos, sin), (-sin, cos), (-cos * 0.5, -sin * 0.5), (sin * 0.5, -cos * 0.5)):
        px, py = int(lx + dx), int(ly + dy)
        inside = 0 <= px < width and 0 <= py < height
        if not inside or shadow[py, px] <= lz + bias:
            reached += 0.25
    return reached


@njit(cache=True, fastmath=FAST, inline="always")
def _shade(
    kind: int, albedo: tuple[float, float, float], n: tuple[float, float, float],
    ambient: tuple[float, float, float], view: tuple[float, float, float], reached: float,
    key: np.ndarray, key_colour: np.ndarray,
) -> tuple[float, float, float]:  # fmt: skip
    """Light a surface sends to the eye.  kind: 0 skin, 1 cloth, 2 hair, 3 eye, 4 leather."""
    facing = n[0] * key[0] + n[1] * key[1] + n[2] * key[2]
    if kind == 0:  # light that went under the skin comes out redder, and past the terminator
        dr, dg, db = (facing + 0.3) / 1.3, (facing + 0.12) / 1.12, (facing + 0.08) / 1.08
    elif kind == 2:
        dr = dg = db = (facing + 0.6) / 1.6
    else:
        dr = dg = db = facing
    dr, dg, db = max(dr, 0.0), max(dg, 0.0), max(db, 0.0)
    strength, power = 0.0, 1.0
    if kind == 0:
        strength, power = 0.09, 14.0
    elif kind == 2:
        strength, power = 0.05, 12.0
    elif kind == 3:
        strength, power = 0.9, 180.0
    elif kind == 4:
        strength, power = 0.12, 30.0
    shine = 0.0
    if strength > 0:
        hx, hy, hz = key[0] + view[0], key[1] + view[1], key[2] + view[2]
        length = np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-6
        shine = max(0.0, (n[0] * hx + n[1] * hy + n[2] * hz) / length) ** power * strength
    rim = 1.0 - abs(n[0] * view[0] + n[1] * view[1] + n[2] * view[2])
    fresnel = 0.25 * rim * rim * rim if kind != 2 else 0.0  # cloth's fuzz, skin's grazing shine
    r = albedo[0] * (ambient[0] + key_colour[0] * dr * reached) + key_colour[0] * shine * reached
    g = albedo[1] * (ambient[1] + key_colour[1] * dg * reached) + key_colour[1] * shine * reached
    b = albedo[2] * (ambient[2] + key_colour[2] * db * reached) + key_colour[2] * shine * reached
    return (r + fresnel * ambient[0] * (0.04 + 0.3 * albedo[0]),
            g + fresnel * ambient[1] * (0.04 + 0.3 * albedo[1]),
            b + fresnel * ambient[2] * (0.04 + 0.3 * albedo[2]))  # fmt: skip


@njit(cache=True, fastmath=FAST, inline="always")
def _colour_at(
    x: int, y: int, t: int, b0: float, b1: float, b2: float, backwards: bool,
    triangles: np.ndarray, uv: np.ndarray, material: np.ndarray, kinds: np.ndarray,
    texels: np.ndarray, tables: np.ndarray, linear: np.ndarray, points: np.ndarray,
    eye: np.ndarray, shadow: np.ndarray, bias: float, key: np.ndarray, key_colour: np.ndarray,
) -> tuple[float, float, float, float]:  # fmt: skip
    """Linear RGB (straight) and alpha at shares b0, b1, b2 of triangle t's corners.

    points (V, 12): normal, ambient light, place in the shadow map, place in the world.
    """
    i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
    u = b0 * uv[t, 0, 0] + b1 * uv[t, 1, 0] + b2 * uv[t, 2, 0]
    v = b0 * uv[t, 0, 1] + b1 * uv[t, 1, 1] + b2 * uv[t, 2, 1]
    m = material[t]
    red, green, blue, alpha = _texel(texels, tables[m], u, v, linear)
    nx = b0 * points[i, 0] + b1 * points[j, 0] + b2 * points[k, 0]
    ny = b0 * points[i, 1] + b1 * points[j, 1] + b2 * points[k, 1]
    nz = b0 * points[i, 2] + b1 * points[j, 2] + b2 * points[k, 2]
    length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-6
    if backwards and kinds[m] != 2:
        length = -length
    n = (nx / length, ny / length, nz / length)
    ambient = (
        b0 * points[i, 3] + b1 * points[j, 3] + b2 * points[k, 3],
        b0 * points[i, 4] + b1 * points[j, 4] + b2 * points[k, 4],
        b0 * points[i, 5] + b1 * points[j, 5] + b2 * points[k, 5],
    )
    lx = b0 * points[i, 6] + b1 * points[j, 6] + b2 * points[k, 6]
    ly = b0 * points[i, 7] + b1 * points[j, 7] + b2 * points[k, 7]
    lz = b0 * points[i, 8] + b1 * points[j, 8] + b2 * points[k, 8]
    vx = eye[0] - (b0 * points[i, 9] + b1 * points[j, 9] + b2 * points[k, 9])
    vy = eye[1] - (b0 * points[i, 10] + b1 * points[j, 10] + b2 * points[k, 10])
    vz = eye[2] - (b0 * points[i, 11] + b1 * points[j, 11] + b2 * points[k, 11])
    far = np.sqrt(vx * vx + vy * vy + vz * vz) + 1e-6
    reached = _lit(x, y, lx, ly, lz, shadow, bias)
    r, g, b = _shade(
        kinds[m], (red, green, blue), n, ambient, (vx / far, vy / far, vz / far), reached,
        key, key_colour,
    )  # fmt: skip
    return r, g, b, alpha


@njit(cache=True, fastmath=FAST)
def shade_solid(
    screen: np.ndarray, owner: np.ndarray, inverse_depth: np.ndarray, triangles: np.ndarray,
    uv: np.ndarray, material: np.ndarray, kinds: np.ndarray, texels: np.ndarray,
    tables: np.ndarray, linear: np.ndarray, points: np.ndarray, eye: np.ndarray,
    shadow: np.ndarray, bias: float, key: np.ndarray, key_colour: np.ndarray, out: np.ndarray,
    block: int,
) -> None:  # fmt: skip
    """Colour of every sample that `solid` gave an owner; out (H, W, 4) premultiplied linear.

    Within a block of `block` x `block` samples a triangle is lit once: coverage is exact, light
    smooth enough.
    """
    height, width = owner.shape
    seen = np.empty(block * block, np.int32)
    lit = np.empty((block * block, 3), np.float32)
    for top in range(0, height, block):
        for left in range(0, width, block):
            count = 0
            for y in range(top, min(height, top + block)):
                for x in range(left, min(width, left + block)):
                    t = owner[y, x]
                    if t < 0:
                        continue
                    at = 0
                    while at < count and seen[at] != t:
                        at += 1
                    if at == count:
                        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                        x0, y0, w0 = screen[a, 0], screen[a, 1], screen[a, 2]
                        x1, y1, w1 = screen[b, 0], screen[b, 1], screen[b, 2]
                        x2, y2, w2 = screen[c, 0], screen[c, 1], screen[c, 2]
                        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
                        fx, fy = x + 0.5, y + 0.5
                        e0 = ((y1 - y2) * (fx - x2) + (x2 - x1) * (fy - y2)) / area
                        e1 = ((y2 - y0) * (fx - x2) + (x0 - x2) * (fy - y2)) / area
                        b0, b1, b2 = e0 * w0, e1 * w1, (1 - e0 - e1) * w2  # perspective
                        total = b0 + b1 + b2
                        r, g, bl, _ = _colour_at(
                            x, y, t, b0 / total, b1 / total, b2 / total, area > 0, triangles, uv,
                            material, kinds, texels, tables, linear, points, eye, shadow, bias,
                            key, key_colour,
                        )  # fmt: skip
                        seen[at], lit[at, 0], lit[at, 1], lit[at, 2] = t, r, g, bl
                        count += 1
                    out[y, x, 0], out[y, x, 1], out[y, x, 2] = lit[at, 0], lit[at, 1], lit[at, 2]
                    out[y, x, 3] = 1.0


@njit(cache=True, fastmath=FAST)
def blend(
    order: np.ndarray, screen: np.ndarray, inverse_depth: np.ndarray, triangles: np.ndarray,
    uv: np.ndarray, material: np.ndarray, kinds: np.ndarray, texels: np.ndarray,
    tables: np.ndarray, linear: np.ndarray, points: np.ndarray, eye: np.ndarray,
    shadow: np.ndarray, bias: float, key: np.ndarray, key_colour: np.ndarray, out: np.ndarray,
    front: np.ndarray,
) -> None:  # fmt: skip
    """Draw the triangles of `order` (far to near) over `out` by their texture's alpha.

    Those behind solid samples stay hidden.  front (H, W) gets 1 / distance of the nearest thing.
    """
    height, width = inverse_depth.shape
    for t in order:
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0, w0 = screen[a, 0], screen[a, 1], screen[a, 2]
        x1, y1, w1 = screen[b, 0], screen[b, 1], screen[b, 2]
        x2, y2, w2 = screen[c, 0], screen[c, 1], screen[c, 2]
        if w0 <= 0 or w1 <= 0 or w2 <= 0:
            continue
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0:
            continue
        left = max(0, int(np.ceil(min(x0, x1, x2) - 0.5)))
        right = min(width - 1, int(np.floor(max(x0, x1, x2) - 0.5)))
        top = max(0, int(np.ceil(min(y0, y1, y2) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(y0, y1, y2) - 0.5)))
        scale = 1.0 / area
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                fx, fy = x + 0.5, y + 0.5
                e0 = ((y1 - y2) * (fx - x2) + (x2 - x1) * (fy - y2)) * scale
                e1 = ((y2 - y0) * (fx - x2) + (x0 - x2) * (fy - y2)) * scale
                e2 = 1.0 - e0 - e1
                if e0 < 0 or e1 < 0 or e2 < 0:
                    continue
                w = e0 * w0 + e1 * w1 + e2 * w2
                if w <= inverse_depth[y, x]:
                    continue
                b0, b1, b2 = e0 * w0, e1 * w1, e2 * w2
                total = b0 + b1 + b2
                r, g, bl, alpha = _colour_at(
                    x, y, t, b0 / total, b1 / total, b2 / total, area > 0, triangles, uv,
                    material, kinds, texels, tables, linear, points, eye, shadow, bias, key,
                    key_colour,
                )  # fmt: skip
                if alpha < 0.004:
                    continue
                rest = 1.0 - alpha
                out[y, x, 0] = out[y, x, 0] * rest + r * alpha
                out[y, x, 1] = out[y, x, 1] * rest + g * alpha
                out[y, x, 2] = out[y, x, 2] * rest + bl * alpha
                out[y, x, 3] = out[y, x, 3] * rest + alpha
                if alpha > 0.2 and w > front[y, x]:
                    front[y, x] = w
