"""Peer of the renderer: the same boxes and ground drawn by OpenGL in software (moderngl, EGL, llvmpipe).

    LP_NUM_THREADS=0 python gl_renderer.py SCENES.npz --cpu-seconds 10 --picture gl.png

`benchmarks/peers.py` writes the scenes and runs this with an interpreter that has moderngl and numpy.

A batch of views is two draw calls into one framebuffer and one read-back: every cuboid of every view that
may see it is an instance of one cuboid, and every view has a ground quad with a baked, mip-mapped texture and
a quad of sky behind. Boxes come first, so that hidden ground is never shaded. Views lie side by side in an atlas and are cut by
clip distances. Boxes have six lit faces of one colour; windows, lamps, wheels and contact shadows
are left out, which is in this renderer's favour.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import time
import zlib
from pathlib import Path

import moderngl
import numpy as np

VIEW = """
struct View { mat4 clip_from_world; vec4 eye; vec4 place; vec4 ray_x; vec4 ray_y; vec4 ray_z; };
layout(std430, binding = 0) readonly buffer Views { View views[]; };
// 28 numbers a world, in the order of `appearance.looks_of`.
layout(std430, binding = 1) readonly buffer Looks { float looks[]; };
vec3 look3(int world, int k) { k += 28 * world; return vec3(looks[k], looks[k + 1], looks[k + 2]) / 255.0; }
// Cut at the borders of the view's own picture, then move the picture to its place.
void place(View view, vec4 clip) {
    gl_ClipDistance[0] = clip.w + clip.x; gl_ClipDistance[1] = clip.w - clip.x;
    gl_ClipDistance[2] = clip.w + clip.y; gl_ClipDistance[3] = clip.w - clip.y;
    gl_Position = vec4(clip.xy * view.place.zw + view.place.xy * clip.w, clip.zw);
}
"""
HAZE = (
    "vec3 hazy(vec3 c, float away, float v, vec3 far) { v /= away; return mix(c, far, 1.0 / (1.0 + v * v)); }"
)

BOX_VERTEX = (
    "#version 430\n"
    + VIEW
    + """
layout(location = 0) in vec3 corner;
layout(location = 1) in vec3 normal;
layout(location = 2) in vec4 center;  // and the view
layout(location = 3) in vec4 half_size;  // and the world
layout(location = 4) in vec4 colour;  // and the heading
flat out vec4 lit;  // and the visibility
flat out vec3 horizon;
out float away;
void main() {
    int world = int(half_size.w);
    View view = views[int(center.w)];
    mat2 turn = mat2(cos(colour.w), sin(colour.w), -sin(colour.w), cos(colour.w));
    vec3 local = corner * half_size.xyz;
    vec4 clip = view.clip_from_world * vec4(center.xyz + vec3(turn * local.xy, local.z), 1.0);
    place(view, clip);
    away = clip.w;
    int k = 28 * world;
    vec3 light = vec3(looks[k + 18], looks[k + 19], looks[k + 20]);
    float ambient = looks[k + 21];
    float facing = max(dot(vec3(turn * normal.xy, normal.z), light), 0.0);
    lit = vec4(colour.rgb * (ambient + (1.0 - ambient) * facing), looks[k + 26]);
    horizon = look3(world, 3);
}
"""
)
BOX_FRAGMENT = (
    "#version 430\n"
    + HAZE
    + """
flat in vec4 lit; flat in vec3 horizon; in float away;
out vec4 pixel;
void main() { pixel = vec4(hazy(lit.rgb, away, lit.w, horizon), 1.0); }
"""
)

# Instances come in pairs: the ground of a view, then its sky.
GROUND_VERTEX = (
    "#version 430\n"
    + VIEW
    + """
layout(location = 0) in vec2 corner;
layout(std430, binding = 2) readonly buffer Scenes { vec4 scenes[]; };  // origin of the texture, its size, layer
out vec3 at;  // texture coordinates and layer, or the ray of the sky
out vec2 grain;
out float away;
flat out int is_sky;
flat out vec3 sky; flat out vec3 horizon; flat out vec3 terrain; flat out vec3 road;
flat out vec3 white; flat out vec3 yellow; flat out vec4 numbers;
void main() {
    View view = views[gl_InstanceID / 2];
    int world = int(view.eye.w), k = 28 * world;
    is_sky = gl_InstanceID % 2;
    sky = look3(world, 0); horizon = look3(world, 3); terrain = look3(world, 6);
    road = look3(world, 9); white = look3(world, 12); yellow = look3(world, 15);
    numbers = vec4(looks[k + 22], looks[k + 23], looks[k + 26], looks[k + 27]);
    if (is_sky == 1) {
        place(view, vec4(corner, 1.0, 1.0));
        at = view.ray_x.xyz * corner.x + view.ray_y.xyz * corner.y + view.ray_z.xyz;
        away = 1.0;
        grain = vec2(0.0);
    } else {
        vec2 point = view.eye.xy + 2000.0 * corner;
        vec4 clip = view.clip_from_world * vec4(point, 0.0, 1.0);
        place(view, clip);
        vec4 scene = scenes[int(view.ray_x.w)];
        at = vec3((point - scene.xy) / scene.z, scene.w);
        grain = point / 64.0 + vec2(looks[k + 24], looks[k + 25]);
        away = clip.w;
    }
}
"""
)
GROUND_FRAGMENT = (
    "#version 430\n"
    + HAZE
    + """
layout(binding = 0) uniform sampler2DArray ground;
layout(binding = 1) uniform sampler2D noise;
in vec3 at; in vec2 grain; in float away;
// Four look-ups along the long axis of the pixel's footprint, of the size of its short axis.
vec3 taps() {
    vec2 x = dFdx(at.xy), y = dFdy(at.xy);
    float xx = dot(x, x), yy = dot(y, y);
    vec2 along = xx > yy ? x : y;
    float across = max(min(xx, yy), max(xx, yy) / 16.0);
    float level = 0.5 * log2(across) + log2(float(textureSize(ground, 0).x));
    return 0.25 * (
        textureLod(ground, vec3(at.xy - 0.375 * along, at.z), level).rgb
        + textureLod(ground, vec3(at.xy - 0.125 * along, at.z), level).rgb
        + textureLod(ground, vec3(at.xy + 0.125 * along, at.z), level).rgb
        + textureLod(ground, vec3(at.xy + 0.375 * along, at.z), level).rgb
    );
}
flat in int is_sky;
flat in vec3 sky; flat in vec3 horizon; flat in vec3 terrain; flat in vec3 road;
flat in vec3 white; flat in vec3 yellow; flat in vec4 numbers;
out vec4 pixel;
void main() {
    if (is_sky == 1) {
        float level = 1.0 - max(at.z, 0.0) * inversesqrt(dot(at, at));
        level *= level;
        pixel = vec4(mix(sky, horizon, level * level), 1.0);
        return;
    }
    vec3 share = SHARE;  // of road, white and yellow paint
    float grey = 2.0 * texture(noise, grain).r - 1.0;
    vec2 tone = 1.0 + numbers.xy * grey;
    float paint = numbers.w;
    vec3 bare = mix(terrain * tone.x, road * tone.y, min(share.r + (share.g + share.b), 1.0));
    vec3 colour = bare + paint * (share.g * (white - bare) + share.b * (yellow - bare));
    pixel = vec4(hazy(colour, away, numbers.z, horizon), 1.0);
}
"""
)
NEAR, FAR = 0.1, 4000.0


def cuboid() -> tuple[np.ndarray, np.ndarray]:
    """Corner and normal of 24 vertices, and the 36 indices of 12 triangles, anticlockwise from outside."""
    vertices, indices = [], []
    for axis in range(3):
        for sign in (1.0, -1.0):
            normal = sign * np.eye(3)[axis]
            u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3] * sign
            first = len(vertices)
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                vertices.append(np.concatenate([normal + a * u + b * v, normal]))
            indices += [first, first + 1, first + 2, first, first + 2, first + 3]
    return np.array(vertices, "f4"), np.array(indices, "i4")


def both_octaves(noise: np.ndarray) -> np.ndarray:
    """The two octaves of texture (features of 4 m and 0.5 m, period 64 m) as one, uint8: one look-up, not two."""
    coarse = np.repeat(np.repeat(noise, 8, 0), 8, 1)
    return np.clip(127.5 + 127.5 * (0.6 * coarse + 0.4 * np.tile(noise, (8, 8))), 0, 255).astype(np.uint8)


class Renderer:
    """Draws batches of views of one size.

    Args:
        data: What `scenes.save` wrote.
        filtering: Of the ground's texture: "fast" (bilinear in the nearest mip level), "trilinear", or "sharp"
            (trilinear, 8-fold anisotropic), whose lines stay as narrow in the distance as ours do, or "taps", which
            comes near that for less: four look-ups of "fast" across each pixel's footprint.
    """

    def __init__(self, data: dict[str, np.ndarray], filtering: str):
        self.width, self.height = int(data["width"]), int(data["height"])
        self.count = len(data["scene"])
        self.columns = math.ceil(math.sqrt(self.count * self.height / self.width))
        self.rows = math.ceil(self.count / self.columns)
        self.context = gl = moderngl.create_context(standalone=True, backend="egl", require=430)
        size = (self.columns * self.width, self.rows * self.height)
        self.frame = gl.framebuffer([gl.renderbuffer(size, 4)], gl.depth_renderbuffer(size))
        self.picture = np.empty((size[1], size[0], 4), np.uint8)

        nearest = filtering in ("fast", "taps")
        mipmaps = gl.LINEAR_MIPMAP_NEAREST if nearest else gl.LINEAR_MIPMAP_LINEAR
        ground = data["ground"]
        layers, side = len(ground), ground.shape[1]
        texture = gl.texture_array((side, side, layers), 3, np.ascontiguousarray(ground), alignment=1)
        texture.build_mipmaps()
        texture.filter = (mipmaps, gl.LINEAR)
        # Outside of the texture is terrain, as its own border is.
        texture.repeat_x = texture.repeat_y = False
        texture.anisotropy = 8.0 if filtering == "sharp" else 1.0
        noise = gl.texture((1024, 1024), 1, both_octaves(data["noise"]), alignment=1)
        noise.build_mipmaps()
        noise.filter = (mipmaps, gl.LINEAR)
        texture.use(0)
        noise.use(1)

        boxes = gl.program(vertex_shader=BOX_VERTEX, fragment_shader=BOX_FRAGMENT)
        share = "taps()" if filtering == "taps" else "texture(ground, at).rgb"
        grounds = gl.program(
            vertex_shader=GROUND_VERTEX, fragment_shader=GROUND_FRAGMENT.replace("SHARE", share)
        )
        vertices, indices = cuboid()
        slots = data["present"].shape[-1]
        self.instances = gl.buffer(reserve=self.count * slots * 48, dynamic=True)
        self.views = gl.buffer(reserve=self.count * 144, dynamic=True)
        self.looks = gl.buffer(reserve=data["looks"][0].nbytes, dynamic=True)
        scenes = np.column_stack([data["ground_origin"], data["ground_size"], np.arange(layers)])
        self.scenes = gl.buffer(scenes.astype("f4"))
        for slot, buffer in enumerate((self.views, self.looks, self.scenes)):
            buffer.bind_to_storage_buffer(slot)
        self.boxes = gl.vertex_array(
            boxes,
            [
                (gl.buffer(vertices), "3f 3f", 0, 1),
                (self.instances, "4f 4f 4f /i", 2, 3, 4),
            ],
            gl.buffer(indices),
        )
        corners = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]], "f4")
        self.grounds = gl.vertex_array(grounds, [(gl.buffer(corners), "2f", 0)])
        gl.enable(gl.DEPTH_TEST)
        gl.depth_func = "<="
        for plane in range(4):
            gl.enable_direct(0x3000 + plane)  # GL_CLIP_DISTANCE0
        self.data = data
        column, row = np.arange(self.count) % self.columns, np.arange(self.count) // self.columns
        # A picture's first row is its top: rows of the framebuffer run up, so pictures are drawn upside down.
        self.place = np.stack(
            [
                (2 * column + 1) / self.columns - 1,
                (2 * row + 1) / self.rows - 1,
                np.full(self.count, 1 / self.columns),
                np.full(self.count, 1 / self.rows),
            ],
            -1,
        ).astype("f4")

    def draw(self, frame: int) -> np.ndarray:
        """All views of one frame: atlas, uint8 `[row height, column width, 4]`."""
        self._upload(frame)
        gl, target = self.context, self.frame
        target.use()
        target.clear(depth=1.0)
        gl.enable(gl.CULL_FACE)
        gl.front_face = "cw"  # the pictures are upside down
        self.boxes.render(gl.TRIANGLES, instances=self.drawn)
        gl.disable(gl.CULL_FACE)
        self.grounds.render(gl.TRIANGLE_STRIP, instances=2 * self.count)
        target.read_into(self.picture, components=4, alignment=1)
        return self.picture

    def _upload(self, frame: int) -> None:
        """Views as matrices; boxes that may be seen, one instance for each view."""
        data, count = self.data, self.count
        position, rotation, focal = data["position"][frame], data["rotation"][frame], data["focal"]
        scale = np.stack([2 * focal / self.width, 2 * focal / self.height, np.ones_like(focal)], -1)
        axes = rotation.transpose(0, 2, 1)  # camera_from_world: right, down, forward
        scaled = axes * scale[:, :, None]
        moved = -(scaled @ position[:, :, None])[..., 0]
        views = np.zeros((count, 36), "f4")
        matrix = np.zeros((count, 4, 4), "f4")
        matrix[:, :2, :3], matrix[:, :2, 3] = scaled[:, :2], moved[:, :2]
        matrix[:, 3, :3], matrix[:, 3, 3] = scaled[:, 2], moved[:, 2]
        deep = (FAR + NEAR) / (FAR - NEAR)
        matrix[:, 2] = deep * matrix[:, 3]
        matrix[:, 2, 3] -= 2 * FAR * NEAR / (FAR - NEAR)
        views[:, :16] = matrix.transpose(0, 2, 1).reshape(count, 16)
        views[:, 16:19], views[:, 19] = position, data["world"]
        views[:, 20:24] = self.place
        views[:, 24:27], views[:, 27] = rotation[:, :, 0] / scale[:, :1], data["scene"]
        views[:, 28:31] = rotation[:, :, 1] / scale[:, 1:2]
        views[:, 32:35] = rotation[:, :, 2]
        self.views.write(views)
        self.looks.write(data["looks"][frame])

        world = data["world"]
        center, size = data["center"][frame], data["size"][frame]
        seen = data["present"][frame][world]
        seen[np.arange(count), data["ego_slot"]] = False
        # A box may be seen if its sphere reaches into the cone of the view.
        reach = np.sqrt((size * size).sum(-1))[world] / 2
        local = np.matmul(center[world] - position[:, None], rotation)
        tan = 0.5 * self.width / focal[:, None]
        seen &= local[..., 2] + reach > NEAR
        seen &= np.abs(local[..., 0]) - tan * local[..., 2] < reach * np.sqrt(1 + tan * tan)
        view, box = np.nonzero(seen)
        of = world[view]
        instances = np.empty((len(view), 12), "f4")
        instances[:, 0:3], instances[:, 3] = center[of, box], view
        instances[:, 4:7], instances[:, 7] = size[of, box] / 2, of
        instances[:, 8:11], instances[:, 11] = data["colour"][frame][of, box], data["heading"][frame][of, box]
        self.instances.write(instances)
        self.drawn = len(view)

    def view(self, number: int) -> np.ndarray:
        """The picture of one view in the last atlas, RGB."""
        row, column = divmod(number, self.columns)
        height, width = self.height, self.width
        return self.picture[row * height : (row + 1) * height, column * width : (column + 1) * width, :3]


def write_png(path: Path, picture: np.ndarray) -> None:
    """An RGB picture as PNG, without further packages."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width, _ = picture.shape
    rows = b"".join(b"\0" + row.tobytes() for row in picture)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def main() -> None:
    """Draw for so many seconds of processor time; the last line printed is a JSON object."""
    parser = argparse.ArgumentParser(description="Boxes and ground by software OpenGL.")
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--cpu-seconds", type=float, default=10.0)
    parser.add_argument("--filtering", choices=("fast", "trilinear", "taps", "sharp"), default="fast")
    parser.add_argument("--picture", type=Path, help="write the first views here, one below the other")
    parser.add_argument("--views", type=int, nargs="+", default=[0, 1, 2, 3], help="which views that shows")
    known = parser.parse_args()
    with np.load(known.scenes) as file:
        data = dict(file)
    renderer = Renderer(data, known.filtering)
    frames = len(data["position"])
    for frame in reversed(range(min(frames, 3))):
        renderer.draw(frame)
    if known.picture is not None:
        write_png(known.picture, np.concatenate([renderer.view(k) for k in known.views]))
    batches, drawn, began, busy = 0, 0, time.perf_counter(), time.process_time()
    while time.process_time() - busy < known.cpu_seconds:
        renderer.draw(batches % frames)
        batches, drawn = batches + 1, drawn + renderer.drawn
    cpu, wall = time.process_time() - busy, time.perf_counter() - began
    info = renderer.context.info
    result = {
        "count": batches * renderer.count,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "boxes_a_view": drawn / batches / renderer.count,
        "filtering": known.filtering,
        "version": f"moderngl {moderngl.__version__}, {info['GL_RENDERER']}, {info['GL_VERSION']}",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
