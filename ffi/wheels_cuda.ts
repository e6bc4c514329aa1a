/**
 * NVIDIA's libraries that MLX's CUDA wheels load from beside themselves, about 2 GB of download.
 * The first hash is of the wheel for Linux x64, the second for Linux arm64.
 *
 * @module
 */

/** A library of NVIDIA, pinned. */
type Pin = readonly [name: string, version: string, x64: string, arm64: string];

/** For CUDA 12. */
export const CUDA_12: readonly Pin[] = [
  [
    "nvidia-cublas-cu12",
    "12.9.3.13",
    "d7d51055f161b317c7105ddaae90e71eda059026074ffef93cf7cde2886bfe72",
    "918a8781956115d34b1db49e0e7b7befba8d101661c4b560ed4d42e0e17bebc3",
  ],
  [
    "nvidia-cuda-nvrtc-cu12",
    "12.9.86",
    "210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4",
    "096d4de6bda726415dfaf3198d4f5c522b8e70139c97feef5cd2ca6d4cd9cead",
  ],
  [
    "nvidia-cudnn-cu12",
    "9.28.0.42",
    "9ff58b7f36dacd0a93e89f8f2957b52466889217963701daa15e577317cfa375",
    "f88db8fc1a0a5f458e19aa7b08fbe3500aeb9e2bb8dea6293ecbce170364ad72",
  ],
  [
    "nvidia-cufft-cu12",
    "11.4.1.4",
    "c67884f2a7d276b4b80eb56a79322a95df592ae5e765cf1243693365ccab4e28",
    "1a28c9b12260a1aa7a8fd12f5ebd82d027963d635ba82ff39a1acfa7c4c0fbcf",
  ],
  [
    "nvidia-cusolver-cu12",
    "11.7.5.82",
    "15da72d1340d29b5b3cf3fd100e3cd53421dde36002eda6ed93811af63c40d88",
    "62efa83e4ace59a4c734d052bb72158e888aa7b770e1a5f601682f16fe5b4fd2",
  ],
  [
    "nvidia-cusparse-cu12",
    "12.5.10.65",
    "73060ce019ac064a057267c585bf1fd5a353734151f87472ff02b2c5c9984e78",
    "221c73e7482dd93eda44e65ce567c031c07e2f93f6fa0ecd3ba876a195023e83",
  ],
  [
    "nvidia-nccl-cu12",
    "2.32.3",
    "bb94b2348e4861d5e8aa00b36c3d12d9bdf9c6369b82cbb723de0b582280a21c",
    "061af42ae1044816820e16b872075e243d1ac0656f51860fbc8e106c257aa83a",
  ],
  [
    "nvidia-nvjitlink-cu12",
    "12.9.86",
    "e3f1171dbdc83c5932a45f0f4c99180a70de9bd2718c1ab77d14104f6d7147f9",
    "994a05ef08ef4b0b299829cde613a424382aff7efb08a7172c1fa616cc3af2ca",
  ],
];

/** For CUDA 13. */
export const CUDA_13: readonly Pin[] = [
  [
    "nvidia-cublas",
    "13.10.0.20",
    "dcc6d63884c53d07e267ce7e6feac17b2538cebaafec5db865736c3e28e4dc84",
    "c5f3418c0a845232a8cabc58f6fa52cfae7d8bd3680d94c3907aca710fd48d70",
  ],
  [
    "nvidia-cuda-nvrtc",
    "13.5.37",
    "86b4d68058807988b7d9af5b44917a0601e9c337f35ccd657bfb3c759ff8d8bc",
    "36e4fa2a8ada293f5693d308e531c196ab6f91cf7a0ff479bf96a537d43a6096",
  ],
  [
    "nvidia-cuda-runtime",
    "13.5.37",
    "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d",
    "de2dc5a7367974228b0a69588a9acc9340d3768bef1bf38bf0801eb08497cd2d",
  ],
  [
    "nvidia-cudnn-cu13",
    "9.28.0.42",
    "7358353c75bb121a58e5f7712fe6d588883dc1df8ba00f428237e44e97543c4d",
    "97c70c7fe0ea32e97fcd0b40157915d27f0d1e238479e537e81b12ed3c8f17ae",
  ],
  [
    "nvidia-cufft",
    "12.5.0.14",
    "b8be26837a5abad2b5b74f3e92dd29f622a42934b355be0961a48712cbba23ad",
    "091cde103312d6e09366122fe3f67092dcfd94cc9785029d695d6bcffaa76fdf",
  ],
  [
    "nvidia-cusolver",
    "12.4.1.2",
    "b3b8e02fd2f2df869369af075dc3a179d43f6f7b85e94632a7dce556697be044",
    "1f54c8e0d5b1ebd183b4c5a79f0709fa90241e8254da381ca5b969ee97c8de32",
  ],
  [
    "nvidia-cusparse",
    "12.9.4.2",
    "072667e58c851a318738f5527a12eb225cbf058803f2ea451c722d8cf8edddec",
    "e2ce97f185c9c4b285e4a8fbf02cb96dd1b8dd66736ebe2f0a8da5f6012a4fb7",
  ],
  [
    "nvidia-nccl-cu13",
    "2.32.3",
    "1459723080ac889d73a26edfa3e04383a7928ab31ac8f0ec43b3ea9548b04ff3",
    "a5bee92b2f4af218c109f8d221c3c9adcc752b94ae0ffcb0ed5abf9341a7724c",
  ],
  [
    "nvidia-nvjitlink",
    "13.5.37",
    "280d7cb9649704145f074b8dbde500de04ce02d0872e066e20a83c17bcaa93eb",
    "893f6f9a55b2720ed94913b5ba3332e972da8c78dfa2863d0244403dbd528ffc",
  ],
];
