<?php // config/services.php

return [
    // ANCHOR: config
    'tidegate' => [
        'endpoint' => env('TIDEGATE_ENDPOINT'),
        'admin' => env('TIDEGATE_ADMIN'),
        'key' => env('TIDEGATE_KEY'),
        'secret' => env('TIDEGATE_SECRET', ''),
    ],
    // ANCHOR_END: config
];
